"""The order in which examples are trained on: drawn by a seed, rows of like length in one batch, every batch full."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

SPAN = 50
"""Batches among which rows are sorted by length: it halves the padding and leaves the order random."""


def draw_order(lengths: list[int], batch: int, steps: int, seed: int) -> list[int]:
    """Return the index of every row of every step, `steps * batch` in all.

    The rows come in one random order after another; a stretch of `SPAN` batches is sorted by length and cut into
    batches, which are shuffled.
    """
    draw = np.random.default_rng(seed)
    wanted = steps * batch
    epochs = -(-wanted // len(lengths))
    stream = np.concatenate([draw.permutation(len(lengths)) for _ in range(epochs)])[:wanted]
    length = np.asarray(lengths)
    for start in range(0, wanted, SPAN * batch):
        stretch = stream[start : start + SPAN * batch]
        by_length = stretch[np.argsort(length[stretch], kind="stable")].reshape(-1, batch)
        stream[start : start + len(stretch)] = draw.permutation(by_length).reshape(-1)
    return [int(index) for index in stream]


def lengths(rows: Dataset, *columns: str) -> list[int]:
    """Return how many ids each row holds in these columns together."""
    table: pa.Table = rows.data.table
    counted = [pc.list_value_length(table[column]).to_numpy() for column in columns]
    return [int(length) for length in np.sum(counted, axis=0)]


def arranged(rows: Dataset, columns: tuple[str, ...], batch: int, steps: int, seed: int) -> Dataset:
    """Return the rows of the whole run in the order in which they are trained on."""
    return rows.select(draw_order(lengths(rows, *columns), batch, steps, seed))


def shortest_first(rows: Dataset, column: str, limit: int) -> Dataset:
    """Return the first `limit` rows sorted by length, for a measurement with little padding."""
    first = lengths(rows, column)[:limit]
    return rows.select(sorted(range(len(first)), key=lambda index: first[index]))
