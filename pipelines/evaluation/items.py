"""What a model got for each item, so that two models can be paired item by item."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.artifacts.work import atomic_file

FILE = "items.parquet"
SCHEMA = pa.schema(
    {
        "score": pa.string(),
        "item": pa.string(),
        "value": pa.float64(),
        "weight": pa.float64(),
        "higher_is_better": pa.bool_(),
    }
)


@dataclass(frozen=True)
class Item:
    """An item's part in a score, which is the sum of values over the sum of weights."""

    score: str
    item: str
    """Hash of the item's content: the same text is the same item in every run."""
    value: float
    weight: float
    higher_is_better: bool


def items_of(
    score: str,
    contents: Sequence[Any],
    values: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    higher_is_better: bool,
) -> list[Item]:
    """Return the items of one score, alike in weight unless told; of several with one content each has its number."""
    weights = [1.0] * len(values) if weights is None else weights
    seen: Counter[str] = Counter()
    found = []
    for content, value, weight in zip(contents, values, weights, strict=True):
        name = item_id(content)
        seen[name] += 1
        found.append(Item(score, f"{name}-{seen[name]}", float(value), float(weight), higher_is_better))
    return found


def item_id(content: Any) -> str:
    """Return 32 hexadecimal digits that follow from the item's content alone."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def write_items(folder: Path, out: Path, items: Iterable[Item]) -> None:
    """Write the items, in order of score and item, as one table below `folder` in the artifact `out`."""
    rows = sorted(items, key=lambda item: (item.score, item.item))
    with atomic_file(folder / FILE, out) as fresh:
        pq.write_table(pa.Table.from_pylist([vars(row) for row in rows], SCHEMA), fresh, compression="zstd")


def read_items(folder: Path) -> Mapping[str, list[Item]]:
    """Return the items by score, in order."""
    found: dict[str, list[Item]] = {}
    for row in pq.read_table(folder / FILE).to_pylist():
        found.setdefault(row["score"], []).append(Item(**row))
    return found


def set_digest(items: Iterable[Item]) -> str:
    """Return the digest of which items a score is over, and with what weight, whatever they were answered."""
    return item_id([[item.item, item.weight] for item in items])
