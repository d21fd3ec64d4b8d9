"""Tables for people and JSON for machines."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.artifacts.run import NodeResult, Row

STYLES = {"hit": "green", "built": "cyan", "partial": "yellow", "miss": "red", "waiting": "dim"}
MOST_REASONS = 8
"""Reasons in the line of a stage; the report has all."""
KEY_FIGURES = 3
"""How many metrics a row of the stage table shows: what fits a terminal of 120 columns."""


FIRST = (
    *("in", "kept", "tokens.train", "vocab_size", "bytes_per_token", "heldout_bits_per_byte", "reward.accuracy"),
    *("dpo.accuracy", "dpo.margin", "grpo.reward_gain", "docs_heldout.bits_per_byte"),
    *("docs_heldout_byte4gram.bits_per_byte", "docs_questions.acc", "heldout.perplexity_difference"),
    *("weights.ratio_to_fp32", "heldout_kl", "heldout_loss"),
)
"""Metrics to show before others, since a reader asks for them first."""


def console() -> Console:
    """Return a console that keeps whole lines when the output is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False, soft_wrap=not sys.stdout.isatty())


def print_json(value: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=1, sort_keys=True) + "\n")


def styled(state: str) -> str:
    """Return the state in its colour."""
    return f"[{STYLES[state]}]{state}[/]"


def plan_rows(rows: list[Row]) -> list[dict[str, Any]]:
    """Return a plan as JSON values."""
    return [
        {
            "node": row.node,
            "stage": row.stage,
            "key": row.key,
            "state": row.state,
            "why": row.why,
            "needs": list(row.needs),
            "progress": vars(row.progress) if row.progress else None,
        }
        for row in rows
    ]


def print_plan(rows: list[Row]) -> None:
    """Print a row a stage: key, state and why."""
    table = Table("node", "key", "state", "why", box=None, pad_edge=False)
    for row in rows:
        done = f"{row.progress.done}/{row.progress.total} {row.progress.unit}; " if row.progress else ""
        table.add_row(row.node, (row.key or "")[:12], styled(row.state), escape(done + row.why))
    console().print(table)
    counts = {state: sum(row.state == state for row in rows) for state in STYLES}
    console().print(", ".join(f"{count} {state}" for state, count in counts.items() if count))


def result_rows(results: list[NodeResult]) -> list[dict[str, Any]]:
    """Return a finished run as JSON values."""
    return [
        {
            "node": result.node,
            "state": "hit" if result.hit else "built",
            "key": result.manifest.key,
            "path": str(result.path),
            "seconds": round(result.seconds, 3),
            "metrics": result.manifest.metrics,
        }
        for result in results
    ]


def print_results(results: list[NodeResult]) -> None:
    """Print a row a stage: hit or built, seconds, peak memory, key figures."""
    table = Table("node", "state", box=None, pad_edge=False)
    table.add_column("seconds", justify="right")
    table.add_column("peak MiB", justify="right")
    table.add_column("key figures")
    for result in results:
        peak = "" if result.hit else f"{result.manifest.peak_memory_bytes >> 20:,}"
        state = styled("hit" if result.hit else "built")
        table.add_row(result.node, state, f"{result.seconds:.1f}", peak, figures(result.manifest.metrics))
    console().print(table)
    hits = sum(result.hit for result in results)
    total = sum(result.seconds for result in results)
    for result in results:
        if lost := dropped(result.manifest.metrics):
            console().print(f"{result.node} dropped: {lost}", markup=False)
        if lost and (result.path / "errors" / "errors.jsonl").is_file():
            console().print(f"  which and why: {result.path / 'errors' / 'errors.jsonl'}", markup=False)
    console().print(f"{len(results)} stages: {hits} hit, {len(results) - hits} built, {total:.1f} s of work")


def figures(metrics: dict[str, float]) -> str:
    """Return the metrics that say most about a stage, in words; the manifest has all."""
    told = [name for name in FIRST if name in metrics]
    shown = [*told, *(name for name in metrics if name not in told and "." not in name)][:KEY_FIGURES]
    return "  ".join(f"{name} {metrics[name]:,.5g}" for name in shown)


def dropped(metrics: dict[str, float]) -> str:
    """Return what a stage dropped, the commonest reasons first."""
    reasons = [(name.removeprefix("dropped."), int(metrics[name])) for name in metrics if name.startswith("dropped.")]
    ordered = sorted(((count, reason) for reason, count in reasons if count), reverse=True)
    shown = ", ".join(f"{reason} {count:,}" for count, reason in ordered[:MOST_REASONS])
    return shown + (f" and {len(ordered) - MOST_REASONS} more reasons" if len(ordered) > MOST_REASONS else "")


def print_trace(document: str, run: str, steps: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Print a row for each output in which a document was met, with what that stage was the first to say of it."""
    table = Table("stage", "output", "what it says", box=None, pad_edge=False)
    said: dict[str, Any] = {}
    for node, output, facts in steps:
        news = {name: value for name, value in facts.items() if value not in (None, "") and said.get(name) != value}
        said.update(news)
        told = "  ".join(f"{name} {_short(value)}" for name, value in news.items()) or (
            "kept as it was" if output == "documents" else "the same"
        )
        table.add_row(node, output, escape(told))
    console().print(f"document {document} in run {run}", markup=False)
    console().print(table)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
