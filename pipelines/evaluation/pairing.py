"""Two models over the same items: the challenger's gain on every score, each with its paired interval."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import atomic_file
from pipelines.evaluation.compare import CompareConfig
from pipelines.evaluation.gates import Comparison, Difference
from pipelines.evaluation.intervals import bootstrap_ratio
from pipelines.evaluation.items import Item, read_items, set_digest

FILE = "comparison.json"


def write_comparison(config: CompareConfig, champion: Path, challenger: Path, out: Path) -> Metrics:
    """Write `comparison/comparison.json` and return the gains by score."""
    ours, theirs = read_items(challenger), read_items(champion)
    differing = {
        score: why for score in sorted({*ours, *theirs}) if (why := differs(theirs.get(score, []), ours.get(score, [])))
    }
    shared = [score for score in sorted(ours) if score not in differing]
    confidence = 1 - (1 - config.confidence) / max(len(shared), 1)  # Bonferroni's: all of them hold together
    differences = [paired(config, score, theirs[score], ours[score], confidence) for score in shared]
    content = {
        "confidence": {"together": config.confidence, "each": confidence},
        "item_sets": {score: set_digest(ours[score]) for score in shared},
        "differences": [asdict(item) for item in differences],
        "differing": differing,
    }
    with atomic_file(out / "comparison" / FILE, out) as fresh:
        fresh.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    gains = {f"gain.{item.score}": item.gain for item in differences}
    return {"scores": float(len(differences)), "differing": float(len(differing)), **gains}


def read_comparison(folder: Path) -> Comparison:
    """Return what `write_comparison` wrote."""
    content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return Comparison(tuple(Difference(**item) for item in content["differences"]), content["differing"])


def differs(champion: Sequence[Item], challenger: Sequence[Item]) -> str | None:
    """Return how the items of one score are not the same for both models, None where they are."""
    if set_digest(champion) == set_digest(challenger):
        return None
    ours, theirs = {item.item for item in challenger}, {item.item for item in champion}
    if ours == theirs:
        return "the items are the same and their weights are not; evaluate both models with one version"
    alone = f"{len(theirs - ours)} the champion's alone, {len(ours - theirs)} the challenger's alone"
    return f"{len(ours & theirs)} items are shared, {alone}; evaluate both on the same items, all of a set if need be"


def paired(
    config: CompareConfig, score: str, champion: Sequence[Item], challenger: Sequence[Item], confidence: float
) -> Difference:
    """Return the challenger's gain on one score; the items are in the same order on both sides."""
    theirs, ours = (np.array([item.value for item in side]) for side in (champion, challenger))
    weights = np.array([item.weight for item in challenger])
    gain, low, high = bootstrap_ratio(
        ours - theirs, weights, seed=config.seed, resamples=config.resamples, confidence=confidence
    )
    total = weights.sum()
    sign = 1.0 if challenger[0].higher_is_better else -1.0
    low, high = sorted((sign * low, sign * high))
    return Difference(
        score, float(theirs.sum() / total), float(ours.sum() / total), sign * gain, low, high, len(weights)
    )
