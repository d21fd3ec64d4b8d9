from hypothesis import given
from hypothesis import strategies as st

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


@given(
    steps=st.integers(1, 300),
    warmup=st.integers(0, 100),
    decay=st.floats(0, 1),
    low=st.floats(0, 1),
    kind=st.sampled_from(["wsd", "cosine"]),
)
def test_the_scale_stays_between_nothing_and_one(steps: int, warmup: int, decay: float, low: float, kind: str) -> None:
    for scale in scales(max_steps=steps, warmup_steps=warmup, decay_fraction=decay, min_lr_ratio=low, schedule=kind):
        assert 0 <= scale <= 1
