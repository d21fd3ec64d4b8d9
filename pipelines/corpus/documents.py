"""The row of every corpus stage: datatrove's `Document` in memory, zstd Parquet on disk."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document

from pipelines.artifacts.work import atomic_file

ROWS_PER_GROUP = 500
"""Rows that are in memory at once: 500 pages of at most 1 MB each stay under 512 MB."""

PROVENANCE = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("url", pa.string()),
        ("source_uri", pa.string()),
        ("record_offset", pa.int64()),
        ("record_digest", pa.string()),
        ("crawl_time", pa.string()),
    ]
)


def document_id(record_digest: str, record_offset: int, file: str = "") -> str:
    """Return the identifier of the document that a record at this offset holds: 32 hexadecimal digits.

    Where a file is one document its name is part of it: two equal files are two documents.
    """
    where = f"{record_digest}\n{record_offset}" + (f"\n{file}" if file else "")
    return hashlib.sha256(where.encode()).hexdigest()[:32]


def parts(folder: Path) -> list[Path]:
    """Return the Parquet parts of a documents output, in order."""
    return sorted(folder.glob("part-*.parquet"))


def part_name(index: int) -> str:
    """Return the file name of part `index`."""
    return f"part-{index:05d}.parquet"


def count_documents(folder: Path) -> int:
    """Return how many documents an output holds, read from the footers."""
    return sum(pq.read_metadata(part).num_rows for part in parts(folder))


def read_documents(source: Path, columns: list[str] | None = None) -> Iterator[Document]:
    """Yield the documents of one part, or of all parts of an output in order, a row group at a time."""
    for part in [source] if source.is_file() else parts(source):
        for row in read_rows(part, columns):
            yield to_document(row)


def read_rows(path: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of one Parquet file, a row group at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, columns=columns):
            yield from batch.to_pylist()


def to_document(row: dict[str, Any]) -> Document:
    """Return the row as a `Document`: what is neither text nor id is metadata."""
    return Document(text=row.pop("text", "") or "", id=row.pop("id"), metadata=row)


def to_row(document: Document) -> dict[str, Any]:
    """Return the `Document` as a row."""
    return {"id": document.id, "text": document.text, **document.metadata}


class PartWriter:
    """Writes rows to one Parquet file that appears under its name only when the block ends without an error."""

    def __init__(self, path: Path, out: Path, schema: pa.Schema) -> None:
        self.path, self.schema = path, schema
        self.rows = 0
        self._atomic = atomic_file(path, out)
        self._buffer: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._writer = pq.ParquetWriter(self._atomic.__enter__(), self.schema, compression="zstd")
        return self

    def write(self, document: Document) -> None:
        """Append a document; a field that the schema lacks is left out."""
        self.write_row(to_row(document))

    def write_row(self, row: dict[str, Any]) -> None:
        """Append a row."""
        self._buffer.append(row)
        self.rows += 1
        if len(self._buffer) >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._buffer:
            self._writer.write_table(pa.Table.from_pylist(self._buffer, schema=self.schema))
            self._buffer = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        self._atomic.__exit__(kind, error, trace)


def write_documents(path: Path, out: Path, schema: pa.Schema, documents: Iterable[Document]) -> int:
    """Write the documents as one part and return how many there were."""
    with PartWriter(path, out, schema) as writer:
        for document in documents:
            writer.write(document)
    return writer.rows
