"""Two models item by item: what is the same is no gain, what differs is named, and pairing sees small gains."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.evaluation.compare import CompareConfig, compare
from pipelines.evaluation.gates import Comparison
from pipelines.evaluation.items import Item, items_of, read_items, write_items
from pipelines.evaluation.pairing import read_comparison

CONFIG = CompareConfig(resamples=1_000)


def answers(values: Sequence[float], *, score: str = "quiz.acc", higher: bool = True) -> list[Item]:
    return items_of(score, [f"question {n}" for n in range(len(values))], values, higher_is_better=higher)


def compared(tmp_path: Path, champion: list[Item], challenger: list[Item]) -> Comparison:
    for name, items in (("champion", champion), ("challenger", challenger)):
        (tmp_path / name).mkdir(exist_ok=True)
        write_items(tmp_path / name / "items", tmp_path / name, items)
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    compare(CONFIG, champion=tmp_path / "champion" / "items", challenger=tmp_path / "challenger" / "items", out=out)
    return read_comparison(out / "comparison")


def test_items_come_back_as_they_were_written(tmp_path: Path) -> None:
    items = answers([1, 0, 1])
    write_items(tmp_path / "items", tmp_path, items)
    assert read_items(tmp_path / "items") == {"quiz.acc": sorted(items, key=lambda item: item.item)}


def test_a_pair_sees_what_two_intervals_of_their_own_would_not(tmp_path: Path) -> None:
    draw = random.Random(0)
    before = [draw.gauss(0, 10) for _ in range(200)]
    found = compared(tmp_path, answers(before), answers([value - 0.2 + draw.gauss(0, 0.5) for value in before]))
    (difference,) = found.differences
    assert difference.low < difference.gain < difference.high < 0
    assert difference.high - difference.low < 0.4


def test_of_a_cost_less_is_a_gain(tmp_path: Path) -> None:
    cost = {"score": "toxicity.mean_probability", "higher": False}
    (difference,) = compared(tmp_path, answers([0.5] * 20, **cost), answers([0.3] * 20, **cost)).differences  # type: ignore[arg-type]
    assert difference.gain == pytest.approx(0.2) and difference.low > 0


def test_other_items_are_named_and_not_compared(tmp_path: Path) -> None:
    shared = answers([1.0] * 10)
    found = compared(tmp_path, shared + answers([1.0], score="blimp.acc"), shared + answers([1.0] * 12)[10:])
    assert not found.differences
    assert "10 items are shared, 0 the champion's alone, 2 the challenger's alone" in found.differing["quiz.acc"]
    assert "0 items are shared" in found.differing["blimp.acc"]


def test_the_order_of_the_items_does_not_matter(tmp_path: Path) -> None:
    items = answers([draw % 2 for draw in range(30)])
    (tmp_path / "a").mkdir()
    first = compared(tmp_path / "a", items, list(reversed(items)))
    assert first.differences[0].gain == 0 and not first.differing


def test_intervals_of_many_scores_hold_together(tmp_path: Path) -> None:
    draw = random.Random(1)
    sides = [[draw.random() for _ in range(50)] for _ in range(2)]
    (tmp_path / "one").mkdir()
    (alone,) = compared(tmp_path / "one", answers(sides[0]), answers(sides[1])).differences
    many = [[item for n in range(10) for item in answers(side, score=f"quiz{n}.acc")] for side in sides]
    first, *_ = compared(tmp_path, *many).differences
    assert first.high - first.low > alone.high - alone.low
    content = json.loads((tmp_path / "out" / "comparison" / "comparison.json").read_text())
    assert content["confidence"]["each"] == pytest.approx(0.995)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=30))
def test_what_one_gains_the_other_loses(pairs: list[tuple[float, float]], tmp_path: Path) -> None:
    left, right = (answers(side) for side in zip(*pairs, strict=True))
    (there,) = compared(tmp_path, left, right).differences
    (back,) = compared(tmp_path, right, left).differences
    assert there.gain == pytest.approx(-back.gain, abs=1e-9)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-6)
    (same,) = compared(tmp_path, left, left).differences
    assert (same.gain, same.low, same.high) == (0, 0, 0)
