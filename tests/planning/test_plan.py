"""`gristmill plan` tells what pre-training will take, and the run report scores what it told."""

import json
import platform
from pathlib import Path
from typing import Any

import pytest

from deployments.options import Options
from deployments.planning import duration, plan, scaled
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.run import Planner
from pipelines.artifacts.store import Store
from pipelines.planning.calibration import now
from pipelines.planning.prediction import Interval, Prediction, Prices, predict
from pipelines.planning.scoring import Score, keep, scores
from pipelines.products import PRODUCTS
from pipelines.recipes import smoke
from pipelines.reporting.html import render
from pipelines.settings import with_settings
from tests.planning.conftest import TINY, VOCABULARY, Measured
from tests.planning.ladders import published

CHANGED = {
    name: value
    for name, value in TINY.model_dump(mode="json").items()
    if value != getattr(smoke().pretrain, name) and not isinstance(value, dict)
}
SETTINGS = (
    *(f"pretrain.{name}={json.dumps(value)}" for name, value in CHANGED.items()),
    f"tokenizer.vocab_size={VOCABULARY}",
)
FACTS: dict[str, Any] = {
    "title": "A run", "bundle": {}, "duplicates": {}, "dropped": {}, "audit": {}, "tokenizer": {}, "curves": {},
    "samples": {}, "funnel": [], "scores": [], "tokens": [],
}  # fmt: skip


def planned(capsys: pytest.CaptureFixture[str], store: Path, **given: Any) -> dict[str, Any]:
    plan("pretrain", options=Options(recipe="smoke", set=SETTINGS, store=store, json=True), **given)
    rows = json.loads(capsys.readouterr().out)
    found: dict[str, Any] = next(row["forecast"] for row in rows if row["node"] == "pretrain")
    assert all(row["forecast"] is None for row in rows if row["node"] != "pretrain")
    return found


def test_a_plan_counts_without_a_measurement_and_predicts_with_one(
    measured: Measured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = planned(capsys, tmp_path / "store")
    assert found["tokens"] == 200 * 8 * 32 and found["parameters"] > 200_000 and found["flops"] > 1e10
    assert "seconds" not in found and "--calibrate" in found["why"]
    found = planned(capsys, measured.store, price_per_hour=3.6)
    assert found["seconds"]["low"] < found["seconds"]["value"] < found["seconds"]["high"]
    assert found["cost"]["value"] == pytest.approx(found["seconds"]["value"] / 1000)
    assert found["energy_source"] in ("modelled", "rapl") and found["why"] is None
    assert planned(capsys, measured.store)["cost"] is None


def test_a_plan_for_people_names_what_it_shows(measured: Measured, capsys: pytest.CaptureFixture[str]) -> None:
    plan("pretrain", options=Options(recipe="smoke", set=SETTINGS, store=measured.store))
    text = capsys.readouterr().out
    for words in ("parameters", "peak memory", "kWh", "no price", "GiB"):
        assert words in text, text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"price_per_hour": -1.0}, "--price-per-hour: -1 is no price"),
        ({"price_per_kwh": float("nan")}, "--price-per-kwh: nan is no price"),
        ({"watts": 0.0}, "--watts: 0 is no power"),
    ],
)
def test_a_price_or_power_that_is_none_is_one_line(given: dict[str, float], told: str) -> None:
    with pytest.raises(UserError, match=told):
        plan("pretrain", **given)  # type: ignore[arg-type]


def test_figures_are_told_in_units_that_suit_them() -> None:
    assert [duration(seconds) for seconds in (0.5, 90, 600, 9000, 864_000)] == [
        "0.5 s",
        "90 s",
        "10 min",
        "2.5 h",
        "10 d",
    ]
    assert [scaled(count) for count in (7, 1_500, 2_560_000, 3e9)] == ["7", "1.5k", "2.56M", "3G"]


def scored(store: Store, **facts: Any) -> list[Score]:
    """Keep a prediction of 100 s and 1 GiB of `TINY`, publish an artifact of it, and return the scores."""
    around = Interval(100.0, 80.0, 120.0)
    prediction = Prediction(around, around.times(2**30 / 100), around, "modelled", None)
    config = TINY.model_dump(mode="json")
    keep(store.root, "pretrain", config, prediction)
    usual = {"host": platform.node(), "built_at": now(), "seconds": 110.0, "peak_memory_bytes": 1 << 31}
    published(store, "pretrain", **{"config": config, **usual, **facts})
    return scores(store.root, store.manifests("pretrain"))


def test_a_prediction_is_scored_by_its_run(store: Store) -> None:
    time, memory = scored(store)
    assert (memory.figure, memory.holds, memory.error) == ("memory_bytes", False, pytest.approx(-0.5))
    assert (time.figure, time.holds, time.error) == ("seconds", True, pytest.approx(-1 / 11))
    page = render(FACTS, list(store.manifests("pretrain")), predicted=[time, memory])
    assert "What the plan foretold" in page and "110.0 s" in page and "-50%" in page and "2048 MiB" in page
    assert "What the plan foretold" not in render(FACTS, [])


@pytest.mark.parametrize(
    "facts",
    [{"host": "elsewhere"}, {"built_at": "2020-01-01T00:00:00+00:00"}, {"config": TINY.model_dump() | {"seed": 9}}],
)
def test_another_host_an_earlier_run_and_another_config_are_not_scored(facts: dict[str, Any], store: Store) -> None:
    assert scored(store, **facts) == []


def test_the_time_of_a_run_that_was_stopped_is_not_scored(store: Store) -> None:
    scored(store)
    (folder,) = store.folders("pretrain")
    log = folder / "log" / "metrics.jsonl"
    log.write_text('{"step": 10, "seconds": 90.0}\n{"step": 20, "seconds": 30.0}\n')
    assert [score.figure for score in scores(store.root, store.manifests("pretrain"))] == ["memory_bytes"]


def test_a_prediction_is_in_no_key(store: Store, measured: Measured) -> None:
    config = with_settings(smoke(), {"pretrain.max_steps": 7})

    def keys() -> list[str | None]:
        planner = Planner(store)
        PRODUCTS["pretrain"].wire(config, planner)
        return [row.key for row in planner.rows]

    before = keys()
    keep(store.root, "pretrain", config.pretrain.model_dump(mode="json"), predict(TINY, measured.calibration, Prices()))
    assert keys() == before
