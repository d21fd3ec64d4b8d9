"""Examples read from JSONL line by line, each kept or dropped with a reason, and put on disk as Arrow rows."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from datasets import Dataset

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import progress_dir

MAX_LINE_BYTES = 16 << 20
ROWS_AT_ONCE = 1000

Encoded = dict[str, Any]
Encode = Callable[[Mapping[str, Any]], Encoded | str]
"""Returns what a row becomes, or the reason why it is dropped."""


class Examples:
    """The usable rows of one JSONL file, in order, and how many of it there were of each kind."""

    def __init__(self, path: Path, encode: Encode) -> None:
        if not path.is_file():
            raise UserError(f"{path} does not exist; name a folder of examples that holds it")
        self.path, self.encode = path, encode
        self.counts: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Encoded]:
        self.counts.clear()
        with self.path.open("rb") as file:
            for line in _lines(file):
                encoded = self._read(line)
                self.counts["in"] += 1
                if isinstance(encoded, str):
                    self.counts[f"dropped.{encoded}"] += 1
                else:
                    self.counts["kept"] += 1
                    yield encoded

    def _read(self, line: bytes | None) -> Encoded | str:
        if line is None:
            return "line_too_long"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return "invalid_json"
        return self.encode(row) if isinstance(row, dict) else "invalid_json"

    def metrics(self) -> Metrics:
        """Return the counts: `in`, `kept` and `dropped.REASON`; of held-out rows after `heldout.`."""
        names = ("in", "kept", *sorted(self.counts.keys() - {"in", "kept"}))
        prefix = "heldout." if self.path.stem == "heldout" else ""
        return {f"{prefix}{name}": float(self.counts[name]) for name in names}

    def whole(self, stage: str) -> list[Encoded]:
        """Return all usable rows in memory; raise EmptyOutput where there is none."""
        rows = list(self)
        if not rows:
            raise EmptyOutput(stage, self.metrics())
        return rows


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield the lines that are not blank, and None for one that is too long to hold."""
    while line := file.readline(MAX_LINE_BYTES):
        if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
            if line.strip():
                yield line
            continue
        while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield None


def stored(stage: str, examples: Examples, schema: pa.Schema, out: Path) -> Dataset:
    """Return the rows as a data set that is read from disk; raise EmptyOutput where none is left."""
    path = progress_dir(out) / f"{examples.path.parent.name}-{examples.path.stem}.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for batch in _batches(examples):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
    if not examples.counts["kept"]:
        raise EmptyOutput(stage, examples.metrics())
    return Dataset.from_file(str(path))


def _batches(rows: Iterable[Encoded]) -> Iterator[list[Encoded]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, ROWS_AT_ONCE)):
        yield batch
