"""Steps that stand out: skipped, kept or rewound, counted, and written down."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines.artifacts.errors import StageFailed
from pipelines.pretraining.settings import SpikeConfig
from pipelines.pretraining.spikes import find_fault
from tests.pretraining.noise import Noise, broken, equal, loop, trained, weights

WINDOW = {"window": 8, "rewind_every": 4}


def rows(*losses: float) -> list[dict[str, float]]:
    return [{"step": step, "loss": loss, "grad_norm": 1.0} for step, loss in enumerate(losses, start=1)]


def test_a_spike_is_six_deviations_above_a_full_window() -> None:
    curve, config = rows(*[2.0, 2.2] * 4), SpikeConfig(window=8)
    mean, deviation = 2.1, 0.1
    for sigmas, kind in ((5.9, None), (6.1, "spike"), (-50, None)):
        fault = find_fault({"loss": mean + sigmas * deviation, "grad_norm": 1.0}, curve, config)
        assert (fault.kind if fault else None) == kind
    assert find_fault({"loss": 100.0, "grad_norm": 1.0}, curve[1:], config) is None
    assert find_fault({"loss": 2.1, "grad_norm": 9.0}, curve, config) is not None


def test_the_window_holds_no_step_without_a_finite_loss_and_no_heldout_row() -> None:
    curve = [*rows(*[2.0, 2.2] * 4), {"step": 9, "heldout_loss": 99.0}]
    fault = find_fault({"loss": float("nan"), "grad_norm": 1.0}, curve, SpikeConfig(window=8))
    assert fault is not None and fault.kind == "non-finite"
    assert fault.window["loss_mean"] == pytest.approx(2.1) and fault.window["steps"] == 8


def test_a_run_that_stands_still_has_no_spike_by_rounding() -> None:
    assert find_fault({"loss": 2.0 + 1e-9, "grad_norm": 1.0}, rows(*[2.0] * 8), SpikeConfig(window=8)) is None


def test_a_spike_is_skipped_and_the_weights_stay(tmp_path: Path) -> None:
    skipping = trained(Noise({10: 50.0}), tmp_path / "skip", max_steps=11, spikes=WINDOW, decay_fraction=0.0)
    calm = trained(Noise(), tmp_path / "calm", max_steps=10, spikes=WINDOW, decay_fraction=0.0)
    assert equal(skipping, calm)
    assert skipping.figures()["spikes"] == skipping.figures()["skipped_steps"] == 1


def test_a_spike_is_taken_where_that_is_asked_for(tmp_path: Path) -> None:
    keep = {**WINDOW, "on_spike": "keep"}
    made = trained(Noise({10: 50.0}), tmp_path, max_steps=12, spikes=keep)
    assert made.figures()["spikes"] == 1 and made.figures()["skipped_steps"] == 0
    assert len(made.position.curve) == 12


def test_a_rewind_goes_back_and_jumps_over_the_samples_since(tmp_path: Path) -> None:
    rewind = {**WINDOW, "on_spike": "rewind"}
    noise = Noise({10: 50.0})
    made = trained(noise, tmp_path, max_steps=12, spikes=rewind)
    assert noise.read == [*range(11), *range(11, 15)]
    assert made.position.jumps == [[8, 10]] and made.position.batch == 15
    assert made.figures()["rewinds"] == 1 and [row["step"] for row in made.position.curve] == list(range(1, 13))


@pytest.mark.parametrize("stopped", [9, 10, 12, 13])
def test_a_rewound_run_that_is_stopped_anywhere_ends_as_if_it_was_not(stopped: int, tmp_path: Path) -> None:
    rewind = {**WINDOW, "on_spike": "rewind"}
    options = {"max_steps": 12, "spikes": rewind, "keep_checkpoints": 1, "checkpoint_every": 1}
    calm = trained(Noise({10: 50.0}), tmp_path / "calm", **options)
    with pytest.raises(StageFailed, match="run again"):
        trained(Noise({10: 50.0}, stopped=stopped), tmp_path / "out", **options)
    resumed = trained(Noise({10: 50.0}), tmp_path / "out", **options)
    assert equal(resumed, calm) and resumed.position == calm.position


def test_a_run_that_lost_its_checkpoints_in_a_rewind_goes_on_from_the_state_it_went_back_to(tmp_path: Path) -> None:
    rewind = {**WINDOW, "on_spike": "rewind"}
    options = {"max_steps": 12, "spikes": rewind, "checkpoint_every": 1}
    calm = trained(Noise({10: 50.0}), tmp_path / "calm", **options)
    with pytest.raises(StageFailed, match="run again"):
        trained(Noise({10: 50.0}, stopped=10), tmp_path / "out", **options)
    made = loop(Noise(), tmp_path / "out", **options)
    made.checkpoints.remove_after(0)  # as far as a kill in the midst of a rewind can come
    noise = Noise({10: 50.0})
    assert equal(trained(noise, tmp_path / "out", **options), calm) and noise.read[0] == 8


def test_rewinds_are_bounded_and_the_run_then_ends(tmp_path: Path) -> None:
    rewind = {**WINDOW, "on_spike": "rewind", "max_rewinds": 2}
    always = dict.fromkeys(range(10, 100), 50.0)
    with pytest.raises(StageFailed, match="spikes after 2 rewinds"):
        trained(Noise(always), tmp_path, max_steps=40, spikes=rewind)


def test_a_bundle_holds_the_batch_its_documents_and_the_window(tmp_path: Path) -> None:
    noise = Noise({10: 50.0})
    trained(noise, tmp_path, max_steps=12, spikes=WINDOW)
    (bundle,) = (tmp_path / "log" / "spikes").iterdir()
    facts = json.loads((bundle / "spike.json").read_text())
    assert bundle.name == "batch-00000010" and facts["kind"] == "spike" and facts["action"] == "skip"
    assert facts["step"] == 11 and facts["samples"] == [20, 21] and facts["documents"] == ["document-10"]
    assert facts["lr"] > 0 and facts["loss"] > facts["window"]["loss_mean"] + 6 * facts["window"]["loss_deviation"]
    held = load_file(bundle / "batch.safetensors")
    assert all(torch.equal(held[name].long(), part) for name, part in zip(held, noise.batch(10), strict=True))


def test_a_bundle_that_cannot_be_written_costs_the_bundle_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "spikes").write_text("no folder")
    made = trained(Noise(broken(2)), tmp_path)
    assert made.position.step == 6 and "no bundle of step 3 could be written" in caplog.text


def test_skips_in_a_row_end_the_run_with_the_good_weights_and_a_rerun_goes_on_behind_them(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="3 steps in a row were skipped, the last was step 5"):
        trained(Noise(broken(2, 3, 4)), tmp_path / "out", max_skips=3, decay_fraction=0.0)
    kept = loop(Noise(), tmp_path / "out", max_skips=3, decay_fraction=0.0)
    kept._resume()
    good = trained(Noise(), tmp_path / "good", max_steps=2, decay_fraction=0.0)
    assert kept.position.step == 5
    assert all(torch.equal(one, other) for one, other in zip(weights(kept), weights(good), strict=True))
    again = Noise()
    assert trained(again, tmp_path / "out", max_skips=3, decay_fraction=0.0).figures()["skipped_steps"] == 3
    assert again.read == [5]


def test_a_rerun_that_meets_one_more_such_step_ends_at_once(tmp_path: Path) -> None:
    for last in (5, 6):
        with pytest.raises(StageFailed, match=f"the last was step {last}"):
            trained(Noise(broken(2, 3, 4, 5)), tmp_path, max_skips=3)


def test_no_finite_loss_from_the_first_step_on_is_said_with_its_remedy_and_leaves_no_checkpoint(
    tmp_path: Path,
) -> None:
    made = loop(Noise(broken(*range(9))), tmp_path, max_skips=3)
    with pytest.raises(StageFailed, match=r"no step had a finite loss from the first on; .* set dtype to fp32"):
        made.run()
    assert made.checkpoints.newest() is None or made.checkpoints.newest().facts["skipped"] < 3  # type: ignore[union-attr]
