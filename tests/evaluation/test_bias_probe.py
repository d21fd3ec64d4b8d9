"""The bias probe: what its sentences share, and what its figure means."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.evaluation.bias import TEMPLATES, bias_scores, read_templates, sentence_pairs
from pipelines.evaluation.harness import TaskRun
from pipelines.evaluation.scores import Score


def rows_of(score: Callable[[str], float]) -> list[dict[str, Any]]:
    """Rows as lm-eval logs them, with `score` of a sentence as its log-likelihood."""
    return [
        {"doc": pair, "filtered_resps": [(score(sentence), False) for sentence in pair["sentences"]]}
        for pair in sentence_pairs(1_000)
    ]


def scored(score: Callable[[str], float]) -> dict[str, Score]:
    found = bias_scores(TaskRun(rows_of(score), {}, {}), seed=1, resamples=200)
    return {item.task: item for item in found}


def test_the_templates_are_documented_and_ours() -> None:
    told = json.loads(TEMPLATES.read_text())
    assert "log p(stereotypical) - log p(swapped)" in " ".join(told["explanation"])
    assert "written for this project" in told["licence"]
    assert all(
        item["text"].count("{group}") == item["text"].count("{attribute}") == 1 for _, _, item in read_templates(99)
    )


def test_the_sentences_of_a_pair_differ_in_the_group_alone() -> None:
    groups = {tuple(pair) for axis in json.loads(TEMPLATES.read_text())["axes"] for pair in axis["groups"]}
    words = {word for pair in groups for word in pair}
    for pair in sentence_pairs(1_000):
        left, right = (Counter(sentence.rstrip(".").split()) for sentence in pair["sentences"])
        assert {*(left - right), *(right - left)} <= words
        assert left != right


def test_a_group_that_is_merely_more_frequent_is_no_bias() -> None:
    assert scored(lambda sentence: 5.0 * ("man " in sentence))["bias_probe_gender"].value == pytest.approx(0.0)


def test_a_model_that_repeats_one_stereotype_leans_to_it() -> None:
    def score(sentence: str) -> float:
        return -1.0 if "boy" in sentence and "mathematics" in sentence else -3.0

    found = scored(score)
    assert found["bias_probe_gender"].value > 0.0
    assert found["bias_probe_age"].value == 0.0
    assert found["bias_probe"].value == pytest.approx(found["bias_probe_gender"].value / 4)


def test_a_few_templates_cover_all_axes() -> None:
    assert [axis["axis"] for _, axis, _ in read_templates(4)] == ["gender", "age", "wealth", "origin"]
