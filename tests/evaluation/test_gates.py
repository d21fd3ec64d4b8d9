"""The gates: each one fails by its own name, and lets nothing pass that it cannot tell."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.artifacts.records import Decision, Promoted
from pipelines.evaluation.gates import (
    Comparison,
    Contamination,
    Difference,
    Evidence,
    GatesConfig,
    Latency,
    decide,
)
from pipelines.evaluation.scores import Score

MILL = Promoted(name="mill", key="a" * 64, digest="d" * 64, nodes={})
NEXT = MILL.model_copy(update={"key": "b" * 64, "digest": "e" * 64})
SAME = Difference("docs_questions.acc", 0.4, 0.41, 0.01, -0.02, 0.04, 200)
GOOD = Evidence(
    scores=(
        Score("bias_probe", "likelihood_difference", -0.1, -0.2, 0.1, 40, False),
        Score("toxicity", "mean_probability", 0.05, 0.02, 0.09, 40, False),
    ),
    comparison=Comparison((SAME,)),
    contamination=Contamination(("held-out documents", "questions"), (), 0),
    bundle_fault=None,
    bytes=1_000,
    latency=Latency(0.1, 50.0, 5, "cpu"),
)


def decided(champion: Promoted | None = MILL, config: GatesConfig | None = None, **changes: Any) -> Decision:
    evidence = replace(GOOD, **changes)
    return decide(config or GatesConfig(), evidence, challenger=NEXT, champion=champion)


def test_a_model_that_holds_everything_passes() -> None:
    assert decided().passed


def test_the_first_champion_is_compared_with_nobody_and_held_to_all_else() -> None:
    assert decided(champion=None, comparison=None).passed
    refused = decided(champion=None, comparison=None, bytes=1 << 60)
    assert [gate.name for gate in refused.failed] == ["size"]


def scored(task: str, value: float) -> tuple[Score, ...]:
    return tuple(replace(score, value=value) if score.task == task else score for score in GOOD.scores)


LOST = replace(SAME, challenger=0.3, gain=-0.1, low=-0.15, high=-0.05)
FAILURES: list[tuple[str, dict[str, Any]]] = [
    ("loss.docs_questions.acc", {"comparison": Comparison((LOST,))}),
    ("loss.docs_questions.acc", {"comparison": Comparison((replace(SAME, n=5),))}),
    ("same-items.docs_questions.acc", {"comparison": Comparison((), {"docs_questions.acc": "3 items are shared"})}),
    ("loss", {"comparison": Comparison()}),
    ("bias", {"scores": scored("bias_probe", -1.5)}),
    ("bias", {"scores": GOOD.scores[1:]}),
    ("toxicity", {"scores": scored("toxicity", 0.6)}),
    ("toxicity", {"scores": GOOD.scores[:1]}),
    ("contamination", {"contamination": Contamination(("questions",), ("questions in decontaminate/0",), 0)}),
    ("contamination", {"contamination": Contamination(("questions",), (), 2)}),
    ("size", {"bytes": 1 << 60}),
    ("latency.first_token", {"latency": Latency(9.0, 50.0, 5, "cpu")}),
    ("latency.tokens_per_second", {"latency": Latency(0.1, 0.2, 5, "cpu")}),
]


@pytest.mark.parametrize(("name", "changes"), FAILURES, ids=[f"{name}-{n}" for n, (name, _) in enumerate(FAILURES)])
def test_each_gate_fails_alone_and_by_name(name: str, changes: dict[str, Any]) -> None:
    refused = decided(**changes)
    assert [gate.name for gate in refused.failed] == [name]
    assert refused.failed[0].says


def test_a_bundle_that_does_not_verify_is_refused_and_not_timed() -> None:
    refused = decided(bundle_fault="model.safetensors is damaged", latency=None)
    assert [gate.name for gate in refused.failed] == ["bundle", "latency"]


def test_a_bundle_of_another_name_is_refused_unless_it_is_wanted() -> None:
    champion = MILL.model_copy(update={"name": "old-mill"})
    assert [gate.name for gate in decided(champion=champion).failed] == ["name"]
    assert decided(champion=champion, config=GatesConfig(rename=True)).passed


def test_only_named_scores_may_be_lost_and_a_name_that_is_none_is_told() -> None:
    comparison = Comparison((SAME, replace(LOST, score="blimp.acc")))
    assert not decided(comparison=comparison).passed
    assert decided(comparison=comparison, config=GatesConfig(scores=("docs_questions.acc",))).passed
    wrong = decided(comparison=comparison, config=GatesConfig(scores=("docs_questions.acc", "mmlu.acc")))
    assert [gate.name for gate in wrong.failed] == ["loss.mmlu.acc"]


def test_a_loss_within_the_allowed_one_passes() -> None:
    assert decided(comparison=Comparison((LOST,)), config=GatesConfig(max_loss=0.05)).passed
    assert not decided(comparison=Comparison((LOST,)), config=GatesConfig(max_loss=0.04)).passed


@given(
    gain=st.floats(-1, 1),
    half=st.floats(0, 1),
    bias=st.floats(-3, 3),
    toxicity=st.floats(0, 1),
    size=st.integers(0, 99),
)
def test_a_worse_figure_never_opens_a_gate(gain: float, half: float, bias: float, toxicity: float, size: int) -> None:
    config = GatesConfig(max_bytes=50)

    def outcome(worse: float) -> set[str]:
        moved = gain - worse
        scores = (replace(GOOD.scores[0], value=bias * (1 + worse)), replace(GOOD.scores[1], value=toxicity + worse))
        comparison = Comparison((replace(SAME, gain=moved, low=moved - half, high=moved + half),))
        found = decided(config=config, comparison=comparison, scores=scores, bytes=size + int(worse * 10))
        return {gate.name for gate in found.failed}

    assert outcome(0) <= outcome(0.5)
