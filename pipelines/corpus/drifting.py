"""Compares two populations measure by measure, and says which of them drifted."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artifacts.errors import EmptyOutput
from pipelines.artifacts.progress import say
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import atomic_file
from pipelines.corpus.drift import DriftConfig
from pipelines.corpus.populations import Seen, draw_of, drawn
from pipelines.corpus.two_samples import Comparison, compare_distributions, compare_rise, compare_shares

MOST_CHANGED = 10
"""Languages or sources that are listed, those whose shares changed most first."""
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)

Found = tuple[Comparison, dict[str, Any]]
"""What a test found, and what a reader wants to see behind it."""


def compare(
    config: DriftConfig, fresh: Path, old: Mapping[str, Path], model: Path | None, tokens: Path | None, out: Path
) -> Metrics:
    """Write `drift/drift.json` and return the figures of each measure."""
    named = {kind: [path for name, path in sorted(old.items()) if name.startswith(kind)] for kind in ("old", "heldout")}
    before, after = drawn(named["old"], config.documents, config.seed), drawn([fresh], config.documents, config.seed)
    if not before or not after:
        raise EmptyOutput("drift", {"old documents": len(before), "new documents": len(after)}, "give some of both")
    found = _of_documents(config, before, after)
    if model is not None and tokens is not None:
        found["perplexity"] = _of_perplexity(config, model, named["heldout"], tokens)
    rows = [_row(config, name, len(found), *result) for name, result in found.items()]
    with atomic_file(out / "drift" / "drift.json", out) as fresh_file:
        content = {"old_documents": len(before), "new_documents": len(after), "measures": rows}
        fresh_file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for row in rows:
        if row["drifted"]:
            say(f"drift: {told(row)}")
    metrics = {f"{row['measure']}.{name}": float(row[name]) for row in rows for name in ("effect", "p", "drifted")}
    stops = sum(row["drifted"] and row["on_drift"] == "stop" for row in rows)
    return {"old": float(len(before)), "new": float(len(after)), "stops": float(stops)} | metrics


def told(row: Mapping[str, Any]) -> str:
    """Return a measure's row in one line."""
    change = f"changed by {row['effect']:.3g}, more than {row['max_effect']:g} (p {row['p']:.2g}, {row['test']})"
    return f"{row['measure']} {change}"


def _row(config: DriftConfig, name: str, measures: int, found: Comparison, detail: dict[str, Any]) -> dict[str, Any]:
    """Return what is written of a measure; its p-value is judged at alpha shared among the measures (Bonferroni)."""
    measure, alpha = config.measure(name), config.alpha / measures
    return {
        "measure": name,
        "test": found.test,
        "statistic": round(found.statistic, 6),
        "effect": round(found.effect, 6),
        "max_effect": measure.max_effect,
        "p": found.p,
        "alpha": alpha,
        "drifted": found.effect > measure.max_effect and found.p < alpha,
        "on_drift": measure.on_drift,
        **detail,
    }


def _of_documents(config: DriftConfig, before: Sequence[Seen], after: Sequence[Seen]) -> dict[str, Found]:
    shares = partial(compare_shares, categories=config.categories, resamples=config.resamples, seed=config.seed)
    found: dict[str, Found] = {}
    for name in ("language", "source"):
        one, other = (Counter(getattr(seen, name) for seen in sample) for sample in (before, after))
        found[name] = shares(one, other), {"changes": _changes(one, other)}
    lengths = [[float(seen.length) for seen in sample] for sample in (before, after)]
    found["length"] = compare_distributions(*lengths), _quantiles(*lengths)
    old, new = ((sum(seen.toxicity >= config.toxic_score for seen in s), len(s)) for s in (before, after))
    found["toxicity"] = compare_rise(old, new), {"old_share": old[0] / old[1], "new_share": new[0] / new[1]}
    return found


def _of_perplexity(config: DriftConfig, model: Path, heldout: list[Path], tokens: Path) -> Found:
    from pipelines.evaluation.document_bits import bits_per_token, draw_ids  # torch: a crawl is compared without

    bits = []
    for folders in (heldout, [tokens]):
        draw = partial(draw_of, seed=config.seed)
        documents = draw_ids(folders, config.perplexity_documents, config.perplexity_tokens, draw)
        bits.append([round(value, 6) for value in bits_per_token(model, documents, config.device)])
    return compare_distributions(*bits), _quantiles(*bits)


def _changes(old: Counter[str], fresh: Counter[str]) -> list[dict[str, Any]]:
    n_old, n_fresh = old.total(), fresh.total()
    shares = {name: (old[name] / n_old, fresh[name] / n_fresh) for name in old | fresh}
    most = sorted(shares, key=lambda name: (-abs(shares[name][1] - shares[name][0]), name))[:MOST_CHANGED]
    return [{"name": name, "old": round(shares[name][0], 6), "new": round(shares[name][1], 6)} for name in most]


def _quantiles(old: list[float], fresh: list[float]) -> dict[str, Any]:
    return {
        "quantiles": [
            {"quantile": q, "old": round(float(np.quantile(old, q)), 4), "new": round(float(np.quantile(fresh, q)), 4)}
            for q in QUANTILES
        ]
    }
