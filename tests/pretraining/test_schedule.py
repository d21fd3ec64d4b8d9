"""The shape of each schedule, and that torch's and transformers' own give the same."""

import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import OneCycleLR
from transformers import (
    get_cosine_schedule_with_warmup,
    get_inverse_sqrt_schedule,
    get_linear_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
)

from pipelines.pretraining.optimizer_settings import ScheduleName
from pipelines.pretraining.schedule import lr_scale
from pipelines.pretraining.settings import LoopConfig


def scales(**fields: object) -> list[float]:
    config = LoopConfig.model_validate(fields)
    return [round(lr_scale(config, step), 6) for step in range(config.max_steps)]


def test_wsd_rises_holds_and_falls_to_nothing_after_the_last_step() -> None:
    assert scales(max_steps=10, warmup_steps=2, decay_fraction=0.4) == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]


def test_wsd_stops_falling_at_the_lowest_rate() -> None:
    assert scales(max_steps=6, warmup_steps=0, decay_fraction=0.5, min_lr_ratio=0.1) == [1, 1, 1, 1, 0.7, 0.4]


def test_the_cosine_passes_its_middle_in_the_middle() -> None:
    golden = [0.5, 1, 1, 0.853553, 0.5, 0.146447]
    assert scales(max_steps=6, warmup_steps=2, schedule="cosine") == golden


def test_without_a_decay_the_rate_stays() -> None:
    assert scales(max_steps=4, warmup_steps=0, decay_fraction=0.0) == [1, 1, 1, 1]


def test_a_run_too_short_for_its_warmup_and_decay_takes_the_lower_of_both() -> None:
    assert scales(max_steps=4, warmup_steps=3, decay_fraction=1.0) == [0.333333, 0.666667, 0.5, 0.25]


def told_by(scheduler: Any, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(round(scheduler.get_last_lr()[0], 6))
        scheduler.optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("name", "build", "fields"),
    [
        ("cosine", lambda one: get_cosine_schedule_with_warmup(one, 4, 20), {}),
        ("linear", lambda one: get_linear_schedule_with_warmup(one, 4, 20), {}),
        (
            "polynomial",
            lambda one: get_polynomial_decay_schedule_with_warmup(one, 4, 20, lr_end=0.1, power=2.0),
            {"min_lr_ratio": 0.1},
        ),
        ("inverse_sqrt", lambda one: get_inverse_sqrt_schedule(one, 4), {}),
        (
            "one_cycle",
            lambda one: OneCycleLR(
                one, 1.0, total_steps=20, pct_start=0.2, cycle_momentum=False, final_div_factor=1 / 25 / 0.01
            ),
            {"min_lr_ratio": 0.01},
        ),
    ],
)
def test_a_schedule_is_that_of_the_libraries(name: str, build: Any, fields: dict[str, float]) -> None:
    """Of transformers', whose warmup begins at nothing, ours is a step ahead while it rises, and equal after."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = told_by(build(optimizer), 20)
    ours = scales(max_steps=20, warmup_steps=4, schedule=name, **fields)
    if name == "one_cycle":
        assert ours == pytest.approx(theirs, abs=1e-6)
    elif name == "inverse_sqrt":  # its steps are counted from 1
        assert ours[3:-1] == pytest.approx(theirs[4:], abs=1e-6)
    else:
        assert ours[4:] == pytest.approx(theirs[4:], abs=1e-6)
    if name != "one_cycle":
        assert ours[:4] == [0.25, 0.5, 0.75, 1.0]


def test_inverse_square_root_halves_at_four_times_the_warmup() -> None:
    found = scales(max_steps=64, warmup_steps=16, schedule="inverse_sqrt")
    assert found[63] == 0.5 and found[31] == pytest.approx(math.sqrt(0.5), abs=1e-6)


@given(
    steps=st.integers(1, 300),
    warmup=st.integers(0, 100),
    decay=st.floats(0, 1),
    low=st.floats(0, 1),
    kind=st.sampled_from(get_args(ScheduleName)),
)
def test_the_scale_stays_between_nothing_and_one(steps: int, warmup: int, decay: float, low: float, kind: str) -> None:
    for scale in scales(max_steps=steps, warmup_steps=warmup, decay_fraction=decay, min_lr_ratio=low, schedule=kind):
        assert 0 <= scale <= 1
