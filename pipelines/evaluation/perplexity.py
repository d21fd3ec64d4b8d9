"""Held-out text: the model's perplexity and bits per byte through lm-eval, beside those of a byte 4-gram."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.byte_ngram import ByteNgram
from pipelines.evaluation.harness import TaskRun
from pipelines.evaluation.intervals import bootstrap_ratio
from pipelines.evaluation.items import Item, items_of
from pipelines.evaluation.scores import Score

TASK = "docs_heldout"
BASELINE = "docs_heldout_byte4gram"


def heldout_task(texts: Sequence[str], tokens: Sequence[int]) -> dict[str, Any]:
    """Return the documents as a task of lm-eval: each is read from its start to its end."""
    import datasets

    rows = datasets.Dataset.from_dict({"text": list(texts), "tokens": list(tokens)})
    return {
        "task": TASK,
        "custom_dataset": lambda **_: {"test": rows},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "text",
        "num_fewshot": 0,
        "metric_list": [{"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}],
    }


def heldout_scores(
    run: TaskRun, baseline: NDArray[np.float64] | None, *, seed: int, resamples: int, measure: str = ""
) -> list[Score]:
    """Return perplexity per token and bits per byte, documents resampled; `measure` is put before their names.

    `baseline` holds the bits that the byte 4-gram spends on each document; with it come its bits per byte and the
    paired difference, which is below 0 where the model predicts the text better.
    """
    likelihoods = np.array([row["bits_per_byte"][0] for row in run.rows])
    sizes = np.array([row["bits_per_byte"][1] for row in run.rows])
    tokens = np.array([row["doc"]["tokens"] for row in run.rows])
    bits = -likelihoods / math.log(2)
    perplexity, low, high = map(math.exp, bootstrap_ratio(-likelihoods, tokens, seed=seed, resamples=resamples))
    scores = [
        Score(TASK, f"{measure}perplexity", perplexity, low, high, len(bits), False),
        _per_byte(TASK, f"{measure}bits_per_byte", bits, sizes, seed, resamples),
    ]
    if baseline is not None:
        scores += [
            _per_byte(BASELINE, "bits_per_byte", baseline, sizes, seed, resamples),
            _per_byte(TASK, "bits_per_byte_above_byte4gram", bits - baseline, sizes, seed, resamples),
        ]
    return scores


def heldout_items(run: TaskRun, measure: str = "") -> list[Item]:
    """Return each document's bits over its bytes: what two models of one tokenizer or of two are compared by."""
    texts = [row["doc"]["text"] for row in run.rows]
    bits = [-row["bits_per_byte"][0] / math.log(2) for row in run.rows]
    sizes = [row["bits_per_byte"][1] for row in run.rows]
    return items_of(f"{TASK}.{measure}bits_per_byte", texts, bits, sizes, higher_is_better=False)


def _per_byte(
    task: str, metric: str, bits: NDArray[np.float64], sizes: NDArray[np.int64], seed: int, resamples: int
) -> Score:
    value, low, high = bootstrap_ratio(bits, sizes, seed=seed, resamples=resamples)
    return Score(task, metric, value, low, high, len(bits), False)


def baseline_bits(model: ByteNgram, texts: Sequence[bytes]) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Return the bits that the byte n-gram spends on each text, and how it was made."""
    k, bits = model.best(texts)
    return bits, {"order": model.order, "k": k, "train_bytes": model.bytes}
