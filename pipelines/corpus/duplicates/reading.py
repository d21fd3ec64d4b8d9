"""The first pass of dedup: all documents read once, what is small kept in memory, the rest in files."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.artifacts.progress import meter
from pipelines.artifacts.work import progress_dir
from pipelines.corpus.dedup import DedupConfig
from pipelines.corpus.documents import count_documents
from pipelines.corpus.duplicates.band_runs import RUN, BandRuns
from pipelines.corpus.duplicates.index import KEYS, SHINGLES, Digests, Records, copy_keys, numbers_of, open_index
from pipelines.corpus.duplicates.keeping import column_of, order_of
from pipelines.corpus.duplicates.minhash import Keys, permutations_of
from pipelines.corpus.duplicates.signing import Signed, Signer, sign_documents


@dataclass
class _Columns:
    """The columns of `Records`, a piece for each run of documents."""

    ids: list[pa.Array] = field(default_factory=list)
    digests: list[Digests] = field(default_factory=list)
    urls: list[Digests] = field(default_factory=list)
    lengths: list[NDArray[np.int64]] = field(default_factory=list)
    order: list[NDArray[np.float64]] = field(default_factory=list)
    sizes: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, signed: Signed, config: DedupConfig) -> None:
        """Append the documents of a row group."""
        count = len(signed.ids)
        self.ids.append(signed.ids)
        self.digests.append(numbers_of(list(signed.found.digests)))
        self.urls.append(numbers_of(signed.urls) if config.by_url else np.zeros((count, 2), np.uint64))
        self.lengths.append(signed.found.lengths)
        longest = config.keep == "longest"
        self.order.append(np.zeros(count) if longest else order_of(config, signed.rank_values))
        self.sizes.append(signed.found.sizes)

    def add_indexed(self, table: pa.Table) -> None:
        """Append the documents of an index."""
        self.ids += table.column("id").cast(pa.large_string()).chunks
        self.digests.append(numbers_of(table.column("digest").to_pylist()))
        self.urls.append(numbers_of(table.column("url_digest").to_pylist()))
        self.lengths.append(table.column("length").to_numpy())
        self.order.append(table.column("order").to_numpy())
        self.sizes.append(table.column("shingles").to_numpy())


def read_all(
    config: DedupConfig, settings: dict[str, Any], documents: Path, out: Path, run: int = RUN
) -> tuple[Records, BandRuns]:
    """Return what is known of the documents of the index and of `documents`, and their band tables."""
    folder = progress_dir(out) / "index"
    shutil.rmtree(folder, ignore_errors=True)  # what is appended to must begin empty
    folder.mkdir()
    bands, rows = int(settings["bands"]), int(settings["rows"])
    runs = BandRuns(progress_dir(out) / "runs", bands, run)
    columns = _Columns()
    first_new, kept_before = 0, np.empty(0, np.bool_)
    if config.index is not None:
        table = open_index(config.index, settings)
        columns.add_indexed(table)
        first_new, kept_before = len(table), table.column("kept").to_numpy()
        sizes = columns.sizes[0]
        for start, keys in copy_keys(config.index, folder, bands, first_new):
            _add(runs, start, keys, sizes[start : start + len(keys)])
    factors, terms = permutations_of(config.seed, bands * rows)
    signer = Signer(config.shingle_words, bands, rows, factors, terms, column_of(config, documents), config.by_url)
    total = count_documents(documents)
    place = first_new
    with (
        (folder / KEYS).open("ab") as key_file,
        (folder / SHINGLES).open("ab") as shingle_file,
        meter("signing", total=total, unit="documents") as counter,
    ):
        for signed in sign_documents(documents, signer, config.workers):
            columns.add(signed, config)
            key_file.write(signed.keys.data)
            shingle_file.write(signed.found.shingles.data)
            _add(runs, place, signed.keys, signed.found.sizes)
            place += len(signed.ids)
            counter.advance(len(signed.ids))
    runs.flush()
    records = Records(
        pa.chunked_array(columns.ids, pa.large_string()),
        _joined(columns.digests, (0, 2), np.uint64),
        _joined(columns.urls, (0, 2), np.uint64),
        _joined(columns.lengths, 0, np.int64),
        _joined(columns.order, 0, np.float64),
        _joined(columns.sizes, 0, np.int64),
        np.concatenate([kept_before, np.zeros(place - first_new, np.bool_)]),
        first_new,
        folder,
    )
    return records, runs


def _add(runs: BandRuns, first: int, keys: Keys, sizes: NDArray[np.int64]) -> None:
    some = np.flatnonzero(sizes)  # a text without words meets nobody
    runs.add(first + some, keys[some])


def _joined(pieces: list[Any], shape: Any, kind: Any) -> Any:
    return np.concatenate([np.empty(shape, kind), *pieces])
