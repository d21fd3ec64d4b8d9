"""Which of several documents is kept: a number by which they are put in order, from the column that the rule names."""

from collections.abc import Iterable
from datetime import UTC, datetime
from math import inf, nan
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.artifacts.errors import UserError
from pipelines.corpus.dedup import DedupConfig
from pipelines.corpus.documents import parts

Order = NDArray[np.float64]
"""The lower, the better."""


def column_of(config: DedupConfig, documents: Path) -> str | None:
    """Return the column that decides, or None for the length; raise UserError when the documents lack it."""
    if config.keep == "longest":
        return None
    column = "crawl_time" if config.keep == "oldest" else config.score
    held = pq.read_schema(parts(documents)[0]) if parts(documents) else pa.schema([])
    numeric = config.keep == "oldest" or (column in held.names and _is_number(held.field(column).type))
    if parts(documents) and (column not in held.names or not numeric):
        numbers = [field.name for field in held if _is_number(field.type)]
        raise UserError(
            f"dedup.keep: {config.keep!r} needs the {'' if config.keep == 'oldest' else 'number '}column {column!r}, "
            f"which the documents do not have; set dedup.score to one of {', '.join(numbers) or 'none'}, "
            "or dedup.keep=longest"
        )
    return column


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def order_of(config: DedupConfig, values: Iterable[object]) -> Order:
    """Return the order of documents by their values: the oldest first, or the highest score; what lacks one is last."""
    place = _age if config.keep == "oldest" else _lowness
    order = np.array([place(value) for value in values], np.float64)
    return np.where(np.isnan(order), inf, order)


def _age(value: object) -> float:
    """Return the seconds since 1970 of a time in ISO 8601, UTC where it names no zone; NaN for anything else."""
    try:
        time = datetime.fromisoformat(str(value))
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return nan


def _lowness(value: object) -> float:
    return -float(value) if isinstance(value, int | float) else nan


def ranks_of(order: Order, lengths: NDArray[np.int64], ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return each document's rank: by the rule, then the longest, then the smallest id; no two are equal.

    Whether a document was in an index before makes no difference: a corpus that grows batch by batch is then that of a
    run over all.
    """
    keys = [("order", "ascending"), ("length", "descending"), ("id", "ascending"), ("place", "ascending")]
    table = pa.table({"order": order, "length": lengths, "id": ids, "place": np.arange(len(order))})
    ranks = np.empty(len(order), np.int64)
    ranks[pc.sort_indices(table, sort_keys=keys).to_numpy()] = np.arange(len(order))
    return ranks
