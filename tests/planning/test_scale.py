"""`gristmill scale`: a ladder in the store, its fit, the run that tests it, and what a budget should buy."""

import json
from pathlib import Path

import pytest

from deployments.scaling import scale
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.store import Store
from pipelines.models.counting import flops_per_token
from pipelines.planning.advice import Trial, advise, rate_for, trial_of
from pipelines.planning.ladder import ladder_in
from pipelines.reporting.scaling_plot import scaling_plot, write_plot
from tests.planning.ladders import VOCABULARY, ladder, run

SIZES, LENGTHS = ("tiny", "smoke", "mini", "demo"), (500, 2_000, 8_000)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Twelve runs and a larger one."""
    made = ladder(tmp_path_factory.mktemp("ladder"), SIZES, LENGTHS)
    run(made, "compact", 8_000)
    return made


@pytest.fixture(scope="module")
def trial(store: Store) -> Trial:
    """Their fit, and what it foretells of the larger one."""
    return trial_of(ladder_in(store, None))


def test_the_dearest_run_is_held_out_and_lies_in_the_interval(trial: Trial) -> None:
    assert (trial.test.size, trial.test.tokens) == ("compact", 8_000 * 4 * 64)
    assert trial.test.key not in {rung.key for rung in trial.fitted} and len(trial.fitted) == 12
    assert trial.holds


def test_a_run_that_went_wrong_lies_outside(tmp_path: Path) -> None:
    made = ladder(tmp_path, SIZES, LENGTHS)
    run(made, "compact", 8_000, worse=1.0)
    assert not trial_of(ladder_in(made, None)).holds


def test_a_budget_is_spent_on_a_size_of_the_table(store: Store, trial: Trial) -> None:
    found = ladder_in(store, None)
    advice = advise(found, trial, 1e14)
    each = flops_per_token(advice.chosen.size, VOCABULARY, 64)  # type: ignore[arg-type]
    assert advice.chosen.tokens * each == pytest.approx(1e14, rel=1e-3)
    assert advice.chosen.loss.value <= advice.chinchilla.loss.value
    assert advice.chinchilla_parameters == pytest.approx((1e14 / 120) ** 0.5)
    assert not advice.is_far and advise(found, trial, 1e20).is_far


def test_the_learning_rate_follows_the_sizes_that_were_swept(tmp_path: Path) -> None:
    made = ladder(tmp_path, SIZES, LENGTHS)
    assert "no three sizes" in rate_for(ladder_in(made, None), 10**7).why
    for size, best in (("tiny", 8e-3), ("smoke", 4e-3), ("mini", 2e-3)):
        for lr in (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2):
            run(made, size, 500, lr=lr, worse=-0.5 if lr == best else 0.1)
    found = rate_for(ladder_in(made, None), 10**7)
    assert found.lr < 2e-3 and "best of 3 sizes" in found.why and "edge" not in found.why


def test_runs_of_other_settings_are_another_ladder(store: Store, tmp_path: Path) -> None:
    made = ladder(tmp_path, SIZES, LENGTHS)
    other = run(made, "tiny", 500, dtype="bf16")
    found = ladder_in(made, None)
    assert len(found.rungs) == 12 and found.others == 1
    assert [rung.key for rung in ladder_in(made, other[:12]).rungs] == [other]
    with pytest.raises(UserError, match="begins the keys of 13"):
        ladder_in(made, "")


@pytest.mark.parametrize(
    ("sizes", "lengths", "told"),
    [
        (("tiny", "smoke"), (500, 2_000), "has 4 runs, 3 to fit"),
        (("tiny", "smoke"), (500, 1_000, 2_000, 4_000, 8_000), "of 2 sizes"),
        (("tiny", "smoke", "mini", "demo"), (500, 2_000), "8 to fit, of 3 sizes and 3 lengths at least, are needed"),
    ],
)
def test_a_ladder_of_too_few_runs_is_refused_with_what_is_needed(
    sizes: tuple[str, ...], lengths: tuple[int, ...], told: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=told):
        ladder_in(ladder(tmp_path, sizes, lengths), None).split()


def test_a_store_without_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished pre-training"):
        ladder_in(Store(tmp_path), None)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"flops": -1.0}, "--flops: -1 is no budget"),
        ({"flops": float("nan")}, "--flops: nan is no budget"),
        ({"plot": Path("fit.pdf")}, r"--plot: 'fit.pdf' is no file to draw into"),
        ({"plot": Path("nowhere/fit.png")}, "is no file to draw into"),
    ],
)
def test_a_wrong_budget_or_picture_is_one_line(given: dict[str, object], told: str, store: Store) -> None:
    with pytest.raises(UserError, match=told):
        scale(store=store.root, **given)  # type: ignore[arg-type]


def test_the_command_tells_fit_test_and_advice(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scale(store=store.root, flops=1e14, plot=tmp_path / "fit.svg", as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["test"]["ok"] and len(told["fitted"]) == 12
    assert told["fit"]["alpha"]["low"] < 0.34 < told["fit"]["alpha"]["high"]
    assert told["advice"]["chosen"]["tokens"] > 0 and told["advice"]["lr"] == 1e-3
    assert (tmp_path / "fit.svg").read_text().startswith("<svg")
    scale(store=store.root, flops=1e14)
    text = capsys.readouterr().out
    for words in ("alpha 0.3", "inside what was foretold", "Chinchilla's 20 tokens a parameter", "lr 0.001"):
        assert words in text, text


def test_the_picture_is_written_as_its_name_says(trial: Trial, tmp_path: Path) -> None:
    write_plot(scaling_plot(trial), tmp_path / "fit.png")
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")
