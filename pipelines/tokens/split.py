"""The files of one split: shards of a bounded size, the span of every document, and the index, written last."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.artifacts.work import atomic_file

SPANS_PER_GROUP = 1 << 16
"""Documents whose ids and places are in memory at once: some 6 MB."""
SPANS = pa.schema([("document_id", pa.string()), ("start", pa.int64()), ("length", pa.int64())])
NAMES = {"<u2": "uint16", "<u4": "uint32"}


class SplitWriter:
    """Appends documents to the token stream of a split; a document may go on in the next file."""

    def __init__(self, folder: Path, out: Path, dtype: str, shard_bytes: int, described: Mapping[str, Any]) -> None:
        self.folder, self.out, self.dtype, self.described = folder, out, np.dtype(dtype), described
        self.room = shard_bytes // self.dtype.itemsize
        self.documents = self.tokens = self.bytes = 0
        self._shards: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        self._files = ExitStack()
        path = self._files.enter_context(atomic_file(self.folder / "spans.parquet", self.out))
        self._spans = self._files.enter_context(pq.ParquetWriter(path, SPANS, compression="zstd"))
        self._waiting: list[pa.RecordBatch] = []
        self._shard: _ShardFile | None = None
        return self

    def write(
        self,
        document_ids: Sequence[str],
        ids: NDArray[np.unsignedinteger[Any]],
        lengths: NDArray[np.int64],
        size: int,
    ) -> None:
        """Append documents, whose ids follow one another; `size` is the bytes of their texts."""
        starts = self.tokens + np.cumsum(lengths) - lengths
        self._waiting.append(pa.record_batch([pa.array(document_ids, pa.string()), starts, lengths], schema=SPANS))
        if sum(len(batch) for batch in self._waiting) >= SPANS_PER_GROUP:
            self._write_spans()
        self.documents += len(document_ids)
        self.tokens += len(ids)
        self.bytes += size
        while len(ids):
            shard = self._shard = self._shard or _ShardFile(self.folder / f"shard-{len(self._shards):05d}.bin")
            piece = ids[: self.room - shard.tokens]
            shard.write(piece)
            if shard.tokens == self.room:
                self._end_shard(shard)
            ids = ids[len(piece) :]

    def _end_shard(self, shard: "_ShardFile") -> None:
        self._shards.append(shard.close())
        self._shard = None

    def _write_spans(self) -> None:
        if self._waiting:
            self._spans.write_table(pa.Table.from_batches(self._waiting), row_group_size=SPANS_PER_GROUP)
            self._waiting = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shard:
            self._end_shard(self._shard)
        if kind is None:
            self._write_spans()
        self._files.__exit__(kind, error, trace)
        if kind is None:
            self._write_index()

    def _write_index(self) -> None:
        index = {
            **self.described,
            "split": self.folder.name,
            "dtype": NAMES[self.dtype.str],
            "documents": self.documents,
            "tokens": self.tokens,
            "bytes": self.bytes,
            "shards": self._shards,
        }
        with atomic_file(self.folder / "index.json", self.out) as fresh:
            fresh.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


class _ShardFile:
    """One file of ids and the hash of its bytes so far."""

    def __init__(self, path: Path) -> None:
        self.path, self.tokens = path, 0
        self._hash = hashlib.sha256()
        self._file: BinaryIO = path.open("wb")

    def write(self, ids: NDArray[np.unsignedinteger[Any]]) -> None:
        data = ids.tobytes()
        self._hash.update(data)
        self._file.write(data)
        self.tokens += len(ids)

    def close(self) -> dict[str, Any]:
        """Close the file and return its entry in the index."""
        self._file.close()
        return {"file": self.path.name, "tokens": self.tokens, "sha256": self._hash.hexdigest()}
