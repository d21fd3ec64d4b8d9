"""The golden files: a stage whose output changes on the tiny corpus must raise its version.

What reads text is compared by digest; what a model computed is compared by its figures, since floating point differs
between processors.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.artifacts.manifest import Manifest
from tests.conftest import Finished

GOLDEN = Path(__file__).parent / "golden"
EXACT = {
    "examples",
    "ingest",
    "annotate",
    "filter",
    "dedup",
    "decontaminate",
    "audit",
    "tokenizer",
    "shard",
    "export_shards",
    "chat",
}
TOLERANCE = 0.1
"""Relative, and absolute below a half: wider than processors differ after a few steps, narrower than a bug."""


def golden_of(manifests: dict[str, Manifest]) -> dict[str, Any]:
    """Return what a stage's golden file holds: its version and, by node, its output digests or its figures."""
    some = next(iter(manifests.values()))
    exact = some.stage in EXACT
    return {
        "version": some.version,
        "roots": {node: item.roots for node, item in manifests.items()},
        "nodes": {node: item.outputs if exact else figures(item) for node, item in manifests.items()},
    }


def figures(item: Manifest) -> dict[str, float]:
    """Return the metrics that two processors have in common.

    Left out are what was drawn at random, since last bits may draw another text, and the small difference of two
    perplexities of hundreds, which are both here: it was .013 on one processor and .066 on another.
    """
    apart = ("toxicity.", "heldout.perplexity_difference")
    return {name: value for name, value in item.metrics.items() if not name.startswith(apart)}


def stages_of(run: Finished) -> dict[str, dict[str, Manifest]]:
    found: dict[str, dict[str, Manifest]] = {}
    for node, result in run.results.items():
        found.setdefault(result.manifest.stage, {})[node] = result.manifest
    return found


def test_no_output_changed_while_its_stage_kept_its_version(
    smoke_run: Finished, request: pytest.FixtureRequest
) -> None:
    stages = stages_of(smoke_run)
    if request.config.getoption("--record-golden"):
        GOLDEN.mkdir(exist_ok=True)
        for stage, manifests in stages.items():
            (GOLDEN / f"{stage}.json").write_text(json.dumps(golden_of(manifests), indent=1, sort_keys=True) + "\n")
        return
    origin = json.loads((GOLDEN / "examples.json").read_text())["roots"]
    if golden_of(stages["examples"])["roots"] != origin:
        pytest.skip("the packages or the Python here are not those of the golden files: another corpus")
    changed = [f"{stage}: {why}" for stage, items in stages.items() for why in changes(stage, golden_of(items))]
    assert not changed, "raise the version, say so in CHANGELOG, then make golden:\n" + "\n".join(changed)


def changes(stage: str, now: dict[str, Any]) -> list[str]:
    """Return how a stage's output differs from its golden file."""
    known = json.loads((GOLDEN / f"{stage}.json").read_text())
    if known["version"] != now["version"]:
        return [f"version {known['version']} → {now['version']} without a new golden file"]
    if stage in EXACT:
        return [
            f"{node}/{name}: {digest[:12]} → {now['nodes'][node].get(name, 'gone')[:12]}"
            for node, outputs in known["nodes"].items()
            for name, digest in outputs.items()
            if now["nodes"][node].get(name) != digest
        ]
    return [
        f"{node}/{name}: {value} → {now['nodes'][node].get(name)}"
        for node, figures in known["nodes"].items()
        for name, value in figures.items()
        if not close(value, now["nodes"][node].get(name))
    ]


def close(before: float, after: float | None) -> bool:
    """Say whether two figures of a model are the same but for floating point."""
    return after is not None and abs(before - after) <= TOLERANCE * max(0.5, abs(before))
