"""What a run will take: parts add up, energy says where it is from, and nothing costs without a price."""

from typing import Any

import pytest

from pipelines.models.build import build
from pipelines.planning.calibration import Calibration, shape_of
from pipelines.planning.counts import counts_of
from pipelines.planning.prediction import Prices, predict
from pipelines.pretraining.optimizer_settings import SophiaConfig
from pipelines.pretraining.pretrain import PretrainConfig

CALIBRATION = Calibration(
    micro_batch_seconds=2.0,
    update_seconds=0.5,
    curvature_seconds=3.0,
    line_seconds=0.25,
    heldout_seconds=7.0,
    checkpoint_seconds=1.0,
    fixed_seconds=11.0,
    spread=0.0,
    memory_bytes=1 << 30,
    peak_flops=1e11,
    watts=None,
    watts_source="modelled",
    threads=2,
    depths=(6,),
    measured_at="2026-01-01T00:00:00+00:00",
)
RUN = PretrainConfig(
    global_batch=16, micro_batch=8, max_steps=100, heldout_every=40, checkpoint_every=30, log_interval=10
)


def test_a_run_takes_its_steps_and_what_is_done_between_them() -> None:
    found = predict(RUN, CALIBRATION, Prices())
    steps, lines, heldout, checkpoints = 100 * (2 * 2.0 + 0.5), 10 * 0.25, 3 * 7.0, 3 * 1.0
    assert found.seconds.value == pytest.approx(11.0 + steps + lines + heldout + checkpoints)
    assert found.seconds.low < found.seconds.value < found.seconds.high
    assert found.memory_bytes.low < found.memory_bytes.value == 1 << 30


def test_the_curvature_counts_where_sophia_estimates_it() -> None:
    sophia = RUN.model_copy(update={"optimizer": "sophia", "sophia": SophiaConfig(every=10)})
    more = predict(sophia, CALIBRATION, Prices()).seconds.value - predict(RUN, CALIBRATION, Prices()).seconds.value
    assert more == pytest.approx(100 * 3.0 / 10)


def test_what_scatters_or_is_reckoned_is_less_certain() -> None:
    def width(**changes: Any) -> float:
        seconds = predict(RUN, CALIBRATION.model_copy(update=changes), Prices()).seconds
        return seconds.high / seconds.low

    assert width() < width(spread=0.1) < width(spread=0.1, depths=(1, 2))


def test_energy_says_where_it_is_from_and_costs_what_was_given() -> None:
    modelled, known = predict(RUN, CALIBRATION, Prices()), predict(RUN, CALIBRATION, Prices(watts=100.0))
    counted = CALIBRATION.model_copy(update={"watts": 50.0, "watts_source": "rapl"})
    read = predict(RUN, counted, Prices())
    assert [found.energy_source for found in (modelled, known, read)] == ["modelled", "given", "rapl"]
    assert known.kilowatt_hours.value == pytest.approx(0.1 * known.seconds.value / 3600)
    assert read.kilowatt_hours.value == pytest.approx(known.kilowatt_hours.value / 2)
    assert modelled.kilowatt_hours.value == pytest.approx((2 * 12 + 0.3725) / 1000 * modelled.seconds.value / 3600)


def test_without_a_price_nothing_costs() -> None:
    assert predict(RUN, CALIBRATION, Prices()).cost is None
    found = predict(RUN, CALIBRATION, Prices(hour=3.0, kilowatt_hour=0.5, watts=100.0))
    assert found.cost is not None
    assert found.cost.value == pytest.approx(3.0 * found.seconds.value / 3600 + 0.5 * found.kilowatt_hours.value)
    only = predict(RUN, CALIBRATION, Prices(kilowatt_hour=0.0))
    assert only.cost is not None and only.cost.value == 0


def test_parameters_are_those_of_the_built_model() -> None:
    counts = counts_of(RUN.model_copy(update={"size": "tiny"}), 300)
    assert counts.parameters == sum(weight.numel() for weight in build("tiny", 300, 256).parameters())
    assert counts.tokens == 100 * 16 * 256
    masked = counts_of(RUN.model_copy(update={"size": "tiny", "architecture": "modernbert"}), 300)
    assert 0 < masked.flops != counts.flops


def test_runs_share_what_was_measured_unless_it_would_differ() -> None:
    shape = shape_of(RUN, 300)
    assert shape == shape_of(RUN.model_copy(update={"max_steps": 70, "lr": 1e-4, "seed": 3, "global_batch": 64}), 300)
    for change in ({"size": "tiny"}, {"optimizer": "muon"}, {"micro_batch": 4}, {"max_steps": 20}, {"dtype": "bf16"}):
        assert shape != shape_of(RUN.model_copy(update=change), 300), change
    assert shape != shape_of(RUN, 301)
    assert shape != shape_of(RUN.model_copy(update={"max_steps": 10**7}), 300), "a long run is compiled"
