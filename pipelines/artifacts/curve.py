"""The curve of a training run: a row of figures a logged step."""

import json
import math
from collections.abc import Iterable
from pathlib import Path

from pipelines.artifacts.work import atomic_file

Row = dict[str, float]


def as_lines(rows: Iterable[Row]) -> str:
    """Return the rows as JSON, one object a line; raise ValueError where a figure is not finite."""
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def write_curve(out: Path, rows: Iterable[Row]) -> None:
    """Write `curve/curve.jsonl`."""
    with atomic_file(out / "curve" / "curve.jsonl", out) as fresh:
        fresh.write_text(as_lines(rows), encoding="utf-8")


def finite(row: Row) -> Row:
    """Return the figures that a curve can hold."""
    return {name: value for name, value in row.items() if math.isfinite(value)}
