"""The weights that are published: of the last step, the best, or their running average; and stopping early."""

from pathlib import Path

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_swa_avg_fn

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.pretraining.averaging import UPDATES
from pipelines.pretraining.early_stopping import note_heldout
from pipelines.pretraining.position import Position
from pipelines.pretraining.settings import PatienceConfig
from tests.pretraining.noise import Noise, loop, tiny, trained, weights

FALLING_THEN_RISING = [3.0, 2.0, 2.5, 2.6, 2.7, 2.8]


def test_the_published_average_is_that_of_the_weights_after_each_step(tmp_path: Path) -> None:
    made = loop(Noise(), tmp_path, publish="average", ema_decay=0.5)
    expected = weights(made)
    for taken in range(1, 7):
        short = trained(Noise(), tmp_path / str(taken), max_steps=taken, decay_fraction=0.0)
        decay = min(0.5, (1 + taken) / (10 + taken))
        expected = [old * decay + new * (1 - decay) for old, new in zip(expected, weights(short), strict=True)]
    made = trained(Noise(), tmp_path / "average", publish="average", ema_decay=0.5, decay_fraction=0.0)
    made.choose_weights()
    for one, other in zip(weights(made), expected, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_equal_average_is_torchs_own_of_the_steps_that_enter(tmp_path: Path) -> None:
    expected = AveragedModel(tiny(), avg_fn=get_swa_avg_fn())
    for taken in (4, 6):
        expected.update_parameters(trained(Noise(), tmp_path / str(taken), max_steps=taken, decay_fraction=0.0).model)
    swa = {"start": 0.5, "every": 2}
    made = trained(Noise(), tmp_path / "swa", publish="swa", swa=swa, decay_fraction=0.0)
    assert int(made.averages.held[UPDATES]) == 2
    made.choose_weights()
    for one, other in zip(weights(made), expected.module.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_an_equal_average_that_no_step_entered_is_the_last_weights(tmp_path: Path) -> None:
    made = trained(Noise(), tmp_path / "swa", publish="swa", swa={"every": 7})
    last = weights(made)
    made.choose_weights()
    assert all(torch.equal(one, other) for one, other in zip(weights(made), last, strict=True))


def test_a_skipped_step_does_not_move_the_average(tmp_path: Path) -> None:
    kept = trained(Noise({2: float("nan")}), tmp_path / "skip", max_steps=3, publish="average", decay_fraction=0.0)
    short = trained(Noise(), tmp_path / "short", max_steps=2, publish="average", decay_fraction=0.0)
    assert all(torch.equal(kept.averages.held[name], short.averages.held[name]) for name in short.averages.held)


def test_the_best_weights_are_published_and_not_the_last(tmp_path: Path) -> None:
    options = {"heldout_every": 1, "publish": "best", "decay_fraction": 0.0}
    made = trained(Noise(heldout=FALLING_THEN_RISING), tmp_path / "best", **options)
    assert (made.position.best_step, made.position.best_loss) == (2, 2.0)
    made.choose_weights()
    short = trained(Noise(), tmp_path / "short", max_steps=2, decay_fraction=0.0)
    assert all(torch.equal(one, other) for one, other in zip(weights(made), weights(short), strict=True))


@pytest.mark.parametrize("publish", ["best", "average", "swa"])
def test_a_stopped_run_goes_on_with_its_average_and_its_best(publish: str, tmp_path: Path) -> None:
    options = {"heldout_every": 1, "publish": publish}
    with pytest.raises(StageFailed, match="run again"):
        trained(Noise(stopped=3, heldout=FALLING_THEN_RISING), tmp_path / "out", **options)
    resumed = trained(Noise(heldout=FALLING_THEN_RISING[3:]), tmp_path / "out", **options)
    calm = trained(Noise(heldout=FALLING_THEN_RISING), tmp_path / "calm", **options)
    for made in (resumed, calm):
        made.choose_weights()
    assert all(torch.equal(one, other) for one, other in zip(weights(resumed), weights(calm), strict=True))
    assert resumed.position == calm.position


def test_the_best_is_refused_where_nothing_was_measured(tmp_path: Path) -> None:
    made = trained(Noise(), tmp_path, publish="best")
    with pytest.raises(UserError, match="publish: 'best' needs a held-out loss"):
        made.choose_weights()


def test_a_run_whose_heldout_loss_no_longer_falls_ends_early_and_stays_ended(tmp_path: Path) -> None:
    options = {"heldout_every": 1, "patience": {"measurements": 2}}
    made = trained(Noise(heldout=FALLING_THEN_RISING), tmp_path, **options)
    assert made.position.step == 4 and made.position.ended
    again = Noise(heldout=FALLING_THEN_RISING)
    assert trained(again, tmp_path, **options).position == made.position
    assert again.read == []


def test_a_loss_must_fall_by_min_delta_to_count_and_a_nan_never_counts() -> None:
    position, config = Position(), PatienceConfig(measurements=3, min_delta=0.5)
    best = []
    for step, loss in enumerate([3.0, 2.8, float("nan"), 2.4, 2.3, 2.2, 2.1], start=1):
        position.step = step
        best.append(note_heldout(position, loss, config))
        if position.ended:
            break
    assert best == [True, True, False, True, True, True, True]
    assert position.stale == 3 and position.best_loss == 2.1 and position.reference_loss == 2.4
