"""Writing the rows of a documents output that a stage keeps, part by part."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.artifacts.progress import meter
from pipelines.artifacts.work import atomic_file
from pipelines.corpus.documents import ROWS_PER_GROUP, parts

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 2
"""Items a thread that are begun before their turn."""

Change = Callable[[pa.RecordBatch, int], tuple[pa.RecordBatch, NDArray[np.bool_]]]
"""Takes rows and the number of the first; returns them changed, and which of them are still to be written."""


def in_order(task: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yield the task's result for each item, in the order of the items, from `workers` threads."""
    if workers == 1:
        yield from map(task, items)
        return
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(task, item))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def write_kept(
    source: Path, out: Path, keep: NDArray[np.bool_], workers: int = 1, change: Change | None = None
) -> None:
    """Write to `out/documents` the rows of `source` that `keep` names, a part for a part and in the same order."""

    def write(numbered: tuple[Path, int]) -> int:
        part, row = numbered
        first = row
        with (
            atomic_file(out / "documents" / part.name, out) as fresh,
            pq.ParquetFile(part) as file,
            pq.ParquetWriter(fresh, file.schema_arrow, compression="zstd") as writer,
        ):
            for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, use_threads=workers == 1):
                mask = keep[row : row + len(batch)]
                if mask.any() and change is not None:
                    batch, still = change(batch, row)
                    mask = mask & still
                row += len(batch)
                if mask.any():
                    writer.write_batch(batch.filter(pa.array(mask)))
        return row - first

    with meter("writing documents", total=len(keep), unit="documents") as counter:
        for rows in in_order(write, list(numbered_parts(source)), workers):
            counter.advance(rows)


def numbered_parts(source: Path) -> Iterator[tuple[Path, int]]:
    """Yield each part of a documents output with the number of its first row."""
    row = 0
    for part in parts(source):
        yield part, row
        row += pq.read_metadata(part).num_rows
