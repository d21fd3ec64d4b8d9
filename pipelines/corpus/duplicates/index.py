"""What a dedup knows of every document it has seen: in memory while it runs, in `index/` for the next one.

The index holds the documents that were dropped too: a new one may be near to them only. Of each it has the id, digests,
what ranks it and whether it is in the corpus (`documents.parquet`), its band keys (`keys.bin`, a row a document) and
its shingles (`shingles.bin`, set after set, sorted), both as little-endian 64-bit numbers.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.work import atomic_file
from pipelines.corpus.dedup import DedupConfig
from pipelines.corpus.duplicates.jaccard import Places, Sets
from pipelines.corpus.duplicates.minhash import Keys

FORMAT = 1
KEYS, SHINGLES = "keys.bin", "shingles.bin"
ROWS = 1 << 16
"""Documents copied at once."""
DIGEST = pa.binary(16)
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("digest", DIGEST),
        ("url_digest", DIGEST),
        ("length", pa.int64()),
        ("order", pa.float64()),
        ("shingles", pa.int64()),
        ("kept", pa.bool_()),
    ]
)

Digests = NDArray[np.uint64]


@dataclass(frozen=True)
class Records:
    """All documents, those of the index first; about 200 bytes of memory each, with what linking adds."""

    ids: pa.ChunkedArray
    """Of large strings: together they may be longer than 2 GiB."""
    digests: Digests
    """A row of two numbers a document: the digest of its text in normal form."""
    urls: Digests
    """The same of its address; zeros where it has none."""
    lengths: NDArray[np.int64]
    order: NDArray[np.float64]
    sizes: NDArray[np.int64]
    kept_before: NDArray[np.bool_]
    """Which documents of the index are in the corpus; nothing of the new ones."""
    first_new: int
    folder: Path
    """Where the keys and shingles lie."""

    def __len__(self) -> int:
        return len(self.lengths)

    def names(self, places: Places, nobody: NDArray[np.bool_] | None = None) -> pa.Array:
        """Return the ids of the documents at `places`; null where `nobody` says so."""
        taken = self.ids.take(pa.array(places, mask=nobody))
        return taken.combine_chunks().cast(pa.string())

    def known(self) -> int:
        """Return how many of the new documents the index holds by their ids, kept or dropped."""
        old, new = self.ids.slice(0, self.first_new), self.ids.slice(self.first_new).combine_chunks()
        held = old.filter(pc.is_in(old, value_set=new)).unique()
        return pc.sum(pc.is_in(new, value_set=held)).as_py() or 0

    def keys(self, bands: int) -> Keys:
        """Return the band keys, mapped from their file."""
        return np.memmap(self.folder / KEYS, "<u8", "r", shape=(len(self), bands))

    def sets(self) -> Sets:
        """Return the shingles, mapped from their file."""
        some = self.sizes.any()
        shingles = np.memmap(self.folder / SHINGLES, "<u8", "r") if some else np.empty(0, np.uint64)
        return Sets(np.asarray(shingles), np.cumsum(self.sizes), self.sizes)


def settings_of(config: DedupConfig, bands: int, rows: int) -> dict[str, Any]:
    """Return what two dedups must agree on before one can go on from the other's index."""
    return {
        "format": FORMAT,
        "threshold": config.threshold,
        "shingle_words": config.shingle_words,
        "seed": config.seed,
        "bands": bands,
        "rows": rows,
        "keep": config.keep,
        "score": config.score if config.keep == "best" else None,
        "by_url": config.by_url,
    }


def open_index(folder: Path, settings: dict[str, Any]) -> pa.Table:
    """Return the documents of an index; raise UserError where it is none or was made with other settings."""
    try:
        held = json.loads((folder / "index.json").read_text())
        table = pq.read_table(folder / "documents.parquet", schema=SCHEMA)
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise UserError(
            f"dedup.index: {str(folder)!r} is no index ({error}); name the `index` folder of a finished dedup"
        ) from error
    for name, value in settings.items():
        if held.get(name) != value:
            raise UserError(
                f"dedup.index: {str(folder)!r} was made with {name} {held.get(name)!r}, not {value!r}; set the same, "
                "or run dedup over all documents without index"
            )
    shingles = int(np.sum(table.column("shingles").to_numpy(), dtype=np.int64))
    for name, numbers in ((KEYS, len(table) * int(settings["bands"])), (SHINGLES, shingles)):
        if not (folder / name).is_file() or (folder / name).stat().st_size != 8 * numbers:
            raise UserError(f"dedup.index: {str(folder / name)!r} is not whole; build the dedup that made it again")
    return table


def copy_keys(folder: Path, fresh: Path, bands: int, count: int) -> Iterator[tuple[int, Keys]]:
    """Copy the keys and shingles of an index to `fresh` and yield its keys, `ROWS` documents at a time."""
    for name in (KEYS, SHINGLES):
        shutil.copyfile(folder / name, fresh / name)
    if count:
        keys: Keys = np.memmap(fresh / KEYS, "<u8", "r", shape=(count, bands))
        for start in range(0, count, ROWS):
            yield start, np.array(keys[start : start + ROWS])


def write_index(records: Records, kept: NDArray[np.bool_], settings: dict[str, Any], out: Path) -> None:
    """Move the keys and shingles to `out/index` and write there what is known of each document."""
    target = out / "index"
    with (
        atomic_file(target / "documents.parquet", out) as fresh,
        pq.ParquetWriter(fresh, SCHEMA, compression="zstd") as writer,
    ):
        for start in range(0, len(records), ROWS):
            piece = slice(start, start + ROWS)
            columns = [
                records.ids.slice(start, ROWS).combine_chunks().cast(pa.string()),
                _binary(records.digests[piece]),
                _binary(records.urls[piece], np.asarray(records.urls[piece].any(axis=1))),
                pa.array(records.lengths[piece]),
                pa.array(records.order[piece]),
                pa.array(records.sizes[piece]),
                pa.array(kept[piece]),
            ]
            writer.write_table(pa.table(columns, schema=SCHEMA))
    for name in (KEYS, SHINGLES):
        (records.folder / name).replace(target / name)
    with atomic_file(target / "index.json", out) as fresh:
        fresh.write_text(json.dumps({**settings, "documents": len(records)}, indent=1, sort_keys=True) + "\n")


def _binary(digests: Digests, valid: NDArray[np.bool_] | None = None) -> pa.Array:
    buffer = pa.py_buffer(np.ascontiguousarray(digests, "<u8"))
    mask = None if valid is None else pa.array(valid).buffers()[1]
    return pa.Array.from_buffers(DIGEST, len(digests), [mask, buffer])


def numbers_of(digests: list[bytes | None]) -> Digests:
    """Return digests of 16 bytes as rows of two numbers, zeros for None."""
    joined = b"".join(digest or bytes(16) for digest in digests)
    return np.frombuffer(joined, "<u8").reshape(len(digests), 2)
