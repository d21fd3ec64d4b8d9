"""The facts of a run, read from the artifacts and manifests behind it; nothing here depends on time or host."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipelines.artifacts.lineage import ancestors
from pipelines.artifacts.manifest import Manifest
from pipelines.reporting.report import ReportConfig

FUNNEL = ("ingest", "annotate", "filter", "dedup", "decontaminate")
EXCERPT = 300
"""Characters shown of a document: enough to see why it went."""
CURVES = ("pretrain", "sft", "reward", "align", "distill")


def manifests_of(inputs: Mapping[str, Path]) -> list[Manifest]:
    """Return the manifest of every artifact behind the inputs, inputs before what was made of them, each once."""
    found: dict[tuple[str, str], Manifest] = {}
    for _, path in sorted(inputs.items()):
        for manifest in ancestors(path.parent):
            found.setdefault((manifest.stage, manifest.key), manifest)
    return list(found.values())


def facts_of(config: ReportConfig, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Return everything that the report shows, timings aside, as JSON values."""
    manifests = manifests_of(inputs)
    return {
        "title": config.title,
        "funnel": funnel(manifests, frozenset(path.parent.name for path in inputs.values())),
        "duplicates": _json(inputs["clusters"] / "summary.json") if "clusters" in inputs else {},
        "dropped": _dropped(inputs["dropped"] / "samples.parquet", config.dropped) if "dropped" in inputs else {},
        "audit": _json(inputs["audit"] / "audit.json") if "audit" in inputs else {},
        "tokenizer": _json(inputs["tokenizer"] / "quality.json") if "tokenizer" in inputs else {},
        "tokens": [dict(item.metrics) for item in manifests if item.stage == "shard"],
        "curves": {stage: curve for stage in CURVES for curve in [_curve(manifests, stage, inputs)] if curve},
        "scores": [
            {"node": name, **score}
            for name, path in sorted(inputs.items())
            for score in _json(path / "scores.json").get("scores", [])
        ],
        "samples": {
            name.removeprefix("evaluate_"): _lines(path.parent / "samples" / "samples.jsonl")[: config.samples]
            for name, path in sorted(inputs.items())
            if name.startswith("evaluate_")
        },
        "bundle": _json(inputs["bundle"] / "bundle.json") if "bundle" in inputs else {},
        "lineage": [
            {
                "stage": item.stage,
                "key": item.key,
                "version": item.version,
                "inputs": {name: f"{entry.stage}/{entry.key}" for name, entry in sorted(item.inputs.items())},
                "roots": item.roots,
                "libraries": item.libraries,
                "metrics": item.metrics,
                "bytes": {name: _output_bytes(item, name) for name in item.outputs},
            }
            for item in manifests
        ],
    }


def funnel(manifests: list[Manifest], direct: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """Return what each corpus stage was given, kept and dropped, by reason.

    A stage that was rebuilt with equal bytes stands twice in the lineage; the run's own, by the keys of its direct
    inputs, is the one that counts.
    """
    rows = []
    for stage in FUNNEL:
        candidates = [item for item in manifests if item.stage == stage and "in" in item.metrics]
        for item in sorted(candidates, key=lambda found: found.key not in direct)[:1]:
            dropped = {
                name.removeprefix("dropped."): int(value)
                for name, value in item.metrics.items()
                if name.startswith("dropped.")
            }
            kept = int(item.metrics["kept"])
            rows.append({"stage": stage, "in": int(item.metrics["in"]), "kept": kept, "dropped": dropped})
    return rows


def _dropped(path: Path, most: int) -> dict[str, list[dict[str, Any]]]:
    """Return the sampled documents that were dropped, by reason, at most so many of one."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in pq.read_table(path, columns=["reason", "id", "url", "text"]).to_pylist() if path.is_file() else []:
        held = found.setdefault(row.pop("reason"), [])
        if len(held) < most:
            held.append(row | {"text": row["text"][:EXCERPT]})
    return found


def _curve(manifests: list[Manifest], stage: str, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    store = next(iter(inputs.values())).parents[2]
    for item in manifests:
        if item.stage == stage:
            return _lines(store / stage / item.key / "curve" / "curve.jsonl")
    return []


def logs_of(inputs: Mapping[str, Path]) -> dict[str, list[dict[str, Any]]]:
    """Return the log of rates of every training stage whose curve is an input, where it has one."""
    logs = {stage: inputs[stage].parent / "log" / "metrics.jsonl" for stage in CURVES if stage in inputs}
    return {stage: rows for stage, path in logs.items() if (rows := _lines(path))}


def _output_bytes(item: Manifest, output: str) -> int:
    return sum(entry.bytes for name, entry in item.files.items() if name.split("/")[0] == output)


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON object; an empty one where this output has no such file."""
    if not path.is_file():
        return {}
    loaded = json.loads(path.read_text())
    return loaded if isinstance(loaded, dict) else {}


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]
