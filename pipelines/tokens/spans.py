"""Which documents lie where in a split of shards, read from `spans.parquet` a row group at a time."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.artifacts.errors import UserError

SPANS_FILE = "spans.parquet"
REMEDY = "run `gristmill artifacts verify` and build it again"


class Spans:
    """The documents of a split, in the order in which they lie."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / SPANS_FILE

    def documents(self, places: Iterable[tuple[int, int]]) -> list[str]:
        """Return the ids of the documents that have a token from `start` to before `end` of a place, each once."""
        found: dict[str, None] = {}
        with self._opened() as file:
            column = file.schema_arrow.get_field_index("start")
            groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
            firsts = np.array([group.column(column).statistics.min for group in groups])
            for start, end in places:
                first = max(int(np.searchsorted(firsts, start, side="right")) - 1, 0)
                last = int(np.searchsorted(firsts, end, side="left"))
                rows = file.read_row_groups(list(range(first, last)))
                ends = pc.add(rows["start"], rows["length"])
                inside = pc.and_(pc.less(rows["start"], end), pc.greater(ends, start))
                found |= dict.fromkeys(rows.filter(inside)["document_id"].to_pylist())
        return list(found)

    def lengths(self) -> Iterator[NDArray[np.int64]]:
        """Yield the documents' tokens, a row group at a time; raise UserError where the documents leave a gap."""
        end = 0
        with self._opened() as file:
            for batch in file.iter_batches(columns=["start", "length"]):
                starts, lengths = (batch[name].to_numpy() for name in ("start", "length"))
                ends = starts + lengths
                if (lengths < 1).any() or (starts != np.concatenate([[end], ends[:-1]])).any():
                    raise UserError(f"shards: {self.path} does not name the tokens without a gap; {REMEDY}")
                end = int(ends[-1])
                yield lengths

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        try:
            with pq.ParquetFile(self.path) as file:
                yield file
        except (OSError, KeyError, IndexError, AttributeError, pa.ArrowException) as error:
            raise UserError(f"shards: {self.path} cannot be read ({error}); {REMEDY}") from error
