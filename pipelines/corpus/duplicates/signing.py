"""One pass over documents by several threads: their shingles, bands and what ranks them, in the order of the rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from pipelines.corpus.documents import parts
from pipelines.corpus.duplicates.minhash import Keys, Numbers, band_keys
from pipelines.corpus.duplicates.shingling import Bytes, Offsets, Shingled, shingle_texts
from pipelines.corpus.duplicates.urls import normalised_url
from pipelines.corpus.selection import in_order


@dataclass(frozen=True)
class Signer:
    """What signing needs to know."""

    shingle_words: int
    bands: int
    rows: int
    factors: Numbers
    terms: Numbers
    rank_column: str | None
    by_url: bool


@dataclass(frozen=True)
class Signed:
    """A row group's documents."""

    ids: pa.Array
    found: Shingled
    keys: Keys
    rank_values: list[object]
    """The column that ranks, empty where the length does."""
    urls: list[bytes | None]
    """The digest of each address, None where there is none; empty where addresses do not matter."""


def sign_documents(documents: Path, signer: Signer, workers: int) -> Iterator[Signed]:
    """Yield the row groups in order."""
    groups = [
        (part, number, metadata)
        for part in parts(documents)
        for metadata in [pq.read_metadata(part)]
        for number in range(metadata.num_row_groups)
    ]
    return in_order(lambda group: _sign(signer, *group), groups, workers)


def _sign(signer: Signer, part: Path, group: int, metadata: pq.FileMetaData) -> Signed:
    columns = ["id", "text", *filter(None, [signer.rank_column]), *(["url"] if signer.by_url else [])]
    with pq.ParquetFile(part, metadata=metadata) as file:
        table = file.read_row_group(group, columns=list(dict.fromkeys(columns)), use_threads=False)
    found = shingle_texts(*text_of(table.column("text")), signer.shingle_words)
    keys = np.empty((len(table), signer.bands), np.uint64)
    band_keys(found.shingles, found.sizes, signer.factors, signer.terms, signer.rows, keys)
    ids = table.column("id").cast(pa.large_string()).combine_chunks()
    values = table.column(signer.rank_column).to_pylist() if signer.rank_column else []
    urls = [_url_digest(url) for url in table.column("url").to_pylist()] if signer.by_url else []
    return Signed(ids, found, keys, values, urls)


def _url_digest(url: str | None) -> bytes | None:
    normal = normalised_url(url)
    return xxhash.xxh3_128_digest(normal.encode("utf-8", "surrogatepass")) if normal else None


def text_of(column: pa.ChunkedArray) -> tuple[Bytes, Offsets]:
    """Return the bytes of all texts of a column, where each begins and where the last ends; null is empty."""
    array = pa.concat_arrays(
        [pa.array([], pa.large_string()), *(chunk.cast(pa.large_string()) for chunk in column.chunks)]
    )
    array = array.fill_null("")
    _, offsets, data = array.buffers()
    starts = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return np.frombuffer(data or b"", np.uint8), starts
