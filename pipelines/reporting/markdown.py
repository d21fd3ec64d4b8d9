"""The run report as markdown for the Prefect UI: stages, scores, plots as data URLs, settings; and lineage as rows."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines.artifacts.manifest import Manifest
from pipelines.artifacts.run import NodeResult
from pipelines.artifacts.stage import StageConfig

MAX_BYTES = 2_500_000
"""Prefect's server and page take 3 MB of markdown in our tests; a report beyond this goes without its plots."""


def run_markdown(product: str, results: Sequence[NodeResult], config: StageConfig) -> str:
    """Return the report of a finished run."""
    hits = sum(result.hit for result in results)
    seconds = sum(result.seconds for result in results)
    head = [
        f"# {product}",
        f"{len(results)} stages, {hits} of them from the store, in {seconds:,.1f} s.",
        _table(("node", "state", "seconds", "key", "figures"), map(_stage_row, results)),
        *_section("Scores", ("model", "task", "score", "value", "95% interval", "items"), _score_rows(results)),
        *_section(
            "Quantization",
            ("model", "MB", "of bf16", "perplexity before", "after", "difference", "same first choice"),
            _quantization_rows(results),
        ),
    ]
    page = report_file(results)
    tail = [f"Whole report: `{page.relative_to(page.parents[3])}` in the store."] if page else []
    tail += ["## Settings", _fenced(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=110))]
    plots = (page.parent / "report.md").read_text() if page else ""
    if plots and len("".join((*head, plots, *tail))) > MAX_BYTES:
        plots = "The plots are too large to show here; they are in the whole report."
    return "\n\n".join([*head, *(["## Plots", plots] if plots else []), *tail])


def report_file(results: Sequence[NodeResult]) -> Path | None:
    """Return the page that the run's `report` stage wrote; None where it had none."""
    pages = [result.path / "log" / "report.html" for result in results if result.manifest.stage == "report"]
    return next((page for page in pages if page.is_file()), None)


def lineage_rows(
    node: str, manifest: Manifest, nodes: Mapping[tuple[str, str], str] | None = None
) -> list[dict[str, str]]:
    """Return a row for each input of an artifact and each root outside the store, with what pins its content.

    `nodes` gives the names of the nodes that inputs came from; an input of another run is told by its stage.
    """
    made = {"node": node, "artifact": manifest.key[:12]}
    inputs = [
        made
        | {
            "input": name,
            "from": f"{(nodes or {}).get((entry.stage, entry.key), entry.stage)}.{entry.output}",
            "key": entry.key[:12],
            "digest": entry.digest[:12],
        }
        for name, entry in sorted(manifest.inputs.items())
    ]
    roots = [
        made | {"input": name, "from": "outside the store", "key": "", "digest": pin[:40]}
        for name, pin in sorted(manifest.roots.items())
    ]
    return inputs + roots


def artifact_key(what: str, node: str) -> str:
    """Return a key in the letters that Prefect allows: `lineage-evaluate-base` for the node `evaluate.base`."""
    return f"{what}-{node}".lower().replace(".", "-").replace("_", "-")


def _stage_row(result: NodeResult) -> Sequence[str]:
    metrics = result.manifest.metrics
    figures = ", ".join(f"{name} {value:,.4g}" for name, value in metrics.items() if "." not in name)
    state = "hit" if result.hit else "built"
    lineage = "lineage" if result.hit else artifact_key("lineage", result.node)  # beside this page, in the UI
    key = f"[`{result.manifest.key[:12]}`](../key/{lineage})"
    return result.node, state, f"{result.seconds:,.1f}", key, figures


def _score_rows(results: Sequence[NodeResult]) -> Iterator[Sequence[str]]:
    for result in results:
        for score in _scores(result, "evaluate").get("scores", []):
            value, interval = f"{score['value']:,.4g}", f"{score['low']:,.4g} to {score['high']:,.4g}"
            yield result.node, score["task"], score["metric"], value, interval, f"{score['n']:,}"


def _quantization_rows(results: Sequence[NodeResult]) -> Iterator[Sequence[str]]:
    for result in results:
        found = _scores(result, "quantize")
        if found:
            scores = {score["metric"]: score for score in found["scores"]}
            after = scores["perplexity_difference"]
            yield (
                result.node,
                f"{found['sizes']['weight_bytes'] / 1e6:,.2f}",
                f"{scores['ratio_to_bf16']['value']:.0%}",
                f"{scores['perplexity_before']['value']:,.4g}",
                f"{scores['perplexity_after']['value']:,.4g}",
                f"{after['value']:+,.3g} ({after['low']:+,.3g} to {after['high']:+,.3g})",
                f"{scores['top1_agreement']['value']:.1%}",
            )


def _scores(result: NodeResult, stage: str) -> dict[str, Any]:
    path = result.path / "scores" / "scores.json"
    if result.manifest.stage != stage or not path.is_file():
        return {}
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def _section(title: str, columns: Sequence[str], rows: Iterator[Sequence[str]]) -> list[str]:
    kept = list(rows)
    return [f"## {title}", _table(columns, kept)] if kept else []


def _table(columns: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _fenced(text: str) -> str:
    """Return the text as a block of code, behind a fence that is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}yaml\n{text.rstrip()}\n{fence}"
