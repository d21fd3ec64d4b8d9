"""Fits the toxicity classifier, scores it in and out of domain, and writes its weights and card."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save
from scipy.sparse import csr_matrix, vstack
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipelines.artifacts.pins import file_digest
from pipelines.artifacts.progress import say
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import atomic_file
from pipelines.corpus.toxic.labelled import read_labelled
from pipelines.corpus.toxic.scoring import BUCKET_BITS, GRAM_LENGTHS, WEIGHTS, Classifier, gram_buckets, plain
from pipelines.corpus.train_toxicity import LabelledSet, TrainToxicityConfig

Bits = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


class Matrix:
    """A set's texts as the classifier weighs them, their labels, and which of them are held out."""

    def __init__(self, part: LabelledSet, texts: list[str], toxic: list[bool], held_out: float, seed: int) -> None:
        self.part, self.rows, self.toxic = part, features(texts), np.array(toxic, np.int64)
        order = np.random.default_rng(seed).permutation(len(texts))
        held = round(len(order) * held_out)
        self.train, self.held = order[held:], order[:held]


def build(config: TrainToxicityConfig, out: Path) -> Metrics:
    """Train on the sets of `config` and write weights and card below `out`; return counts and scores."""
    counts: Counter[str] = Counter()
    seen: set[bytes] = set()
    matrices = []
    for part in config.sets:
        found = read_labelled(part, seen, counts)
        labels = [text.toxic for text in found]
        matrices.append(Matrix(part, [text.text for text in found], labels, config.held_out, config.seed))
    del seen
    counts["kept"] = sum(len(matrix.toxic) for matrix in matrices)
    with threadpool_limits(1):  # the last bits of a sum depend on how many threads share it
        model = fit(config, matrices)
        scores = {matrix.part.name: _scores(config, matrix, matrices, model) for matrix in matrices}
    _write(out, pack(model), card(config, matrices, {name: score for name, score in scores.items() if score}))
    metrics = {name: float(count) for name, count in counts.items() if name}
    for name, score in scores.items():
        if score:
            say(f"train_toxicity: {name}: {', '.join(_shown(kind, score.get(kind)) for kind in KINDS)}")
        for kind, (value, low, high) in score.items():
            stem = f"auroc.{kind.replace(' ', '_')}.{name}"
            metrics |= {stem: value, f"{stem}.low": low, f"{stem}.high": high}
    return metrics


KINDS = ("in domain", "out of domain")
Interval = tuple[float, float, float]


def _shown(kind: str, score: Interval | None) -> str:
    return f"AUROC {kind} {score[0]:.4f} [{score[1]:.4f}, {score[2]:.4f}]" if score else f"AUROC {kind} not measured"


def _scores(
    config: TrainToxicityConfig, matrix: Matrix, matrices: list[Matrix], model: LogisticRegression
) -> dict[str, Interval]:
    """Return the set's AUROC on held-out texts, and that of a classifier which never met the set, on all its texts."""
    if not matrix.part.has_labels:
        return {}
    scores: dict[str, Interval] = {}
    if matrix.part.train:
        scores["in domain"] = auroc_interval(
            matrix.toxic[matrix.held], model.decision_function(matrix.rows[matrix.held]), config
        )
    others = [other for other in matrices if other is not matrix]
    if any(other.part.train and other.part.has_labels for other in others):
        without = fit(config, others) if matrix.part.train else model
        scores["out of domain"] = auroc_interval(matrix.toxic, without.decision_function(matrix.rows), config)
    return scores


def features(texts: list[str]) -> csr_matrix:
    """Return the counts of each text's n-gram buckets over the root of their sum, as `Classifier` weighs them."""
    found = [np.concatenate(list(gram_buckets(plain(text)))) for text in texts]
    starts = np.concatenate(([0], np.cumsum([len(row) for row in found])))
    values = np.concatenate([np.full(len(row), 1 / np.sqrt(max(len(row), 1))) for row in found])
    matrix = csr_matrix((values, np.concatenate(found), starts), shape=(len(texts), 1 << BUCKET_BITS))
    matrix.sum_duplicates()
    return matrix


def fit(config: TrainToxicityConfig, matrices: list[Matrix]) -> LogisticRegression:
    """Return the logistic regression on the training parts of the sets that are trained on."""
    used = [matrix for matrix in matrices if matrix.part.train]
    rows = vstack([matrix.rows[matrix.train] for matrix in used])
    toxic = np.concatenate([matrix.toxic[matrix.train] for matrix in used])
    return LogisticRegression(C=config.regularisation, max_iter=config.max_iterations).fit(rows, toxic)


def pack(model: LogisticRegression) -> Classifier:
    """Return the classifier with its weights rounded to 16-bit integers."""
    scale = float(np.abs(model.coef_).max()) / 32767
    return Classifier(np.round(model.coef_[0] / scale).astype(np.int16), scale, float(model.intercept_[0]))


def auroc(toxic: Bits, ranks: Bits, weights: Bits) -> float:
    """Return the chance that a toxic text ranks above another, ties counting half; `weights` are multiplicities."""
    size = int(ranks.max()) + 1
    positive = np.bincount(ranks, weights * toxic, size)
    negative = np.bincount(ranks, weights * (1 - toxic), size)
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum() / (positive.sum() * negative.sum()))


def auroc_interval(toxic: Bits, scores: Numbers, config: TrainToxicityConfig) -> Interval:
    """Return the AUROC with its 95% percentile interval over resampled texts, each label's apart."""
    ranks = np.unique(scores, return_inverse=True)[1]
    chosen = np.random.default_rng(config.seed)
    labels = [np.flatnonzero(toxic), np.flatnonzero(1 - toxic)]
    draws = []
    for _ in range(config.resamples):
        drawn = np.concatenate([places[chosen.integers(0, len(places), len(places))] for places in labels])
        draws.append(auroc(toxic, ranks, np.bincount(drawn, minlength=len(toxic))))
    low, high = np.quantile(draws, [0.025, 0.975])
    value = auroc(toxic, ranks, np.ones(len(toxic), np.int64))
    return round(value, 6), round(float(low), 6), round(float(high), 6)


def card(config: TrainToxicityConfig, matrices: list[Matrix], scores: dict[str, dict[str, Interval]]) -> dict[str, Any]:
    """Return what a reader must know about the weights: model, sources, settings, scores side by side, limits."""
    return {
        "model": "logistic regression on hashed character n-grams; a document's score is that of its worst window",
        "gram_lengths": list(GRAM_LENGTHS),
        "buckets": 1 << BUCKET_BITS,
        "config": config.identity(),
        "sources": {
            part.name: {
                "origin": part.origin,
                "sha256": {name: file_digest(path) for name, path in part.files().items()},
            }
            for part in config.sets
        },
        "texts": {
            matrix.part.name: {"all": len(matrix.toxic), "toxic": int(matrix.toxic.sum())} for matrix in matrices
        },
        "auroc with 95% interval": scores,
        "in domain": "on held-out texts of a set that was trained on",
        "out of domain": "on all texts of a set, by a classifier trained on the other sets alone",
        "limits": [
            "Text of other places and times is judged as poorly as the score out of domain says: it is a hint.",
            "Labels given by annotators lean against dialects and speech about minorities (Sap et al. 2019, Davidson "
            "et al. 2019), and a classifier inherits that: a low threshold removes them first.",
            "It knows the languages of its sets alone; quotation, fiction and medicine are not told from abuse.",
        ],
    }


def _write(out: Path, classifier: Classifier, facts: dict[str, Any]) -> None:
    held = {"weights": classifier.weights, "scale": np.array([classifier.scale]), "bias": np.array([classifier.bias])}
    with atomic_file(out / "weights" / WEIGHTS.name, out) as fresh:
        fresh.write_bytes(save(held))
    with atomic_file(out / "card" / "card.json", out) as fresh:
        fresh.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
