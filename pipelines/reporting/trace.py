"""What became of one document: where it was read or lost, and where it was kept, dropped or merged, and why."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipelines.artifacts.collect import run_records
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.store import Store

ID = re.compile(r"[0-9a-f]{8,32}")
"""An id, or its first digits as reports show them."""
SAMPLES = "samples.parquet"
"""Documents that another table of the same output names too."""
UNTOLD = frozenset({"id", "text", "pii"})
"""Columns that a trace does not repeat: the long ones, and personal data."""


@dataclass(frozen=True)
class Step:
    """A stage at which the document was met: in which output, and the columns that stand there beside it."""

    node: str
    output: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Trace:
    """A document's way through the newest run that read it."""

    id: str
    """Empty for a page that was lost before it became a document."""
    run: str
    steps: tuple[Step, ...]


def trace_document(store: Store, wanted: str, product: str | None = None) -> Trace:
    """Return a document's way through the newest run, or the newest of a product; its id, URL or file names it.

    Of a page that ingest lost this is the one step at which it was, with the reason. Reads one column of every table of
    a run, so its time grows with the corpus; memory stays at a batch. Raises UserError where no such run has read the
    document.
    """
    columns = ("id",) if ID.fullmatch(wanted) else ("url", "source_uri")
    for record in run_records(store):
        run = json.loads(record.read_text())
        nodes = [node for node in run["nodes"] if store.find(node["stage"], node["key"])]
        asked = product in (None, run["product"])
        found = next(
            (name for column in columns if asked and (name := _identified(store, nodes, column, wanted))), None
        )
        if found:
            steps = tuple(step for node in nodes for step in _steps(store, node, found))
            return Trace(found, record.stem, steps)
        lost = tuple(step for node in nodes if asked for step in _losses(store, node, wanted))
        if lost:
            return Trace("", record.stem, lost)
    what = f"run of {product}" if product else "run"
    raise UserError(
        f"document: no {what} in {str(store.root)!r} has kept {wanted!r} when it read its source, nor listed it as "
        "lost, of which each reason's first rows are listed; name an id, a whole URL or a file"
    )


def _identified(store: Store, nodes: list[dict[str, str]], column: str, wanted: str) -> str | None:
    """Return the id of the first document with this value, looked for where each run begins."""
    for node in nodes:
        for _, path in _tables(store.folder(node["stage"], node["key"])):
            for row in _rows(path, column, wanted):
                if "id" in row:
                    return str(row["id"])
    return None


def _losses(store: Store, node: dict[str, str], wanted: str) -> Iterator[Step]:
    """Yield why a stage that read a source has lost what lies at this address or in this file."""
    listed = store.folder(node["stage"], node["key"]) / "errors" / "errors.jsonl"
    if listed.is_file():
        with listed.open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                if wanted in (row.get("url"), row.get("file")):
                    yield Step(node["node"], "errors", row)


def _steps(store: Store, node: dict[str, str], identifier: str) -> Iterator[Step]:
    for output, path in _tables(store.folder(node["stage"], node["key"])):
        for row in _rows(path, "id", identifier):
            yield Step(
                node["node"],
                output,
                {name: value for name, value in row.items() if name not in UNTOLD | {"document_id"}},
            )


def _tables(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the outputs of an artifact that hold tables of documents."""
    for output in sorted(path for path in folder.iterdir() if path.is_dir() and path.name not in ("log", "index")):
        if any(output.glob("*.parquet")):
            yield output.name, output


def _rows(folder: Path, column: str, wanted: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of all tables of a folder that have this value, without their text."""
    for path in sorted(path for path in folder.glob("*.parquet") if path.name != SAMPLES):
        table = ds.dataset(path, format="parquet")
        names = table.schema.names
        named = "document_id" if column == "id" and "document_id" in names else column  # spans of token shards
        if named in names:
            shown = [name for name in names if name == "id" or name not in UNTOLD]
            same = pc.starts_with(ds.field(named), wanted) if named.endswith("id") else ds.field(named) == wanted
            for batch in table.to_batches(columns=shown, filter=same):
                yield from batch.to_pylist()
