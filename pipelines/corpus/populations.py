"""What drift is measured on: a fair draw of documents with their language, source, length and toxicity."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from xxhash import xxh64_intdigest

from pipelines.artifacts.errors import StageFailed
from pipelines.corpus.auditing.counting import domain_of
from pipelines.corpus.documents import ROWS_PER_GROUP, parts

COLUMNS = ("id", "text", "url", "source_uri", "language", "toxicity_score")


class Seen(NamedTuple):
    """What is compared of a document; `draw` orders documents at random, the same way in every run."""

    draw: int
    language: str
    source: str
    length: int
    toxicity: float


def drawn(folders: Iterable[Path], most: int, seed: int) -> list[Seen]:
    """Return at most `most` documents of the folders, each as likely as any other, whatever its place."""
    found: list[Seen] = []
    limit = 1 << 64
    for part in (part for folder in folders for part in parts(folder)):
        with pq.ParquetFile(part) as file:
            absent = [name for name in COLUMNS if name not in file.schema_arrow.names]
            if absent:
                raise StageFailed(f"drift: {part} has no column {absent[0]}; give documents that annotate has scored")
            for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, columns=list(COLUMNS)):
                found += _below(batch, limit, seed)
                if len(found) > 2 * most:
                    found = sorted(found)[:most]
                    limit = found[-1].draw
    return sorted(found)[:most]


def _below(batch: pa.RecordBatch, limit: int, seed: int) -> list[Seen]:
    """Return the documents of a batch whose draw is below the limit."""
    draws = [draw_of(name, seed) for name in batch.column("id").to_pylist()]
    chosen = pa.array([place for place, draw in enumerate(draws) if draw < limit], pa.int64())
    rows = pa.Table.from_batches([batch]).take(chosen)
    lengths = pc.utf8_length(rows.column("text")).to_pylist()
    return [
        Seen(
            draws[place],
            row["language"] or "unknown",
            domain_of(row["url"] or "") or place_of(row["source_uri"] or ""),
            length or 0,
            row["toxicity_score"] or 0.0,
        )
        for place, length, row in zip(chosen.to_pylist(), lengths, rows.drop_columns("text").to_pylist(), strict=True)
    ]


def draw_of(name: str, seed: int) -> int:
    """Return the number by which a document is drawn: its id, hashed with the seed."""
    return xxh64_intdigest(name.encode(), seed)


def place_of(uri: str) -> str:
    """Return what documents without a web address came from: their file's folder, or the file where it has none."""
    folder, _, file = urlsplit(uri).path.rpartition("/")
    return folder.rpartition("/")[2] or file or "unknown"
