"""The log of a run: what a line holds, what a resume leaves of it, and where else it goes."""

import json
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.pretraining.communication import covered
from pipelines.pretraining.monitor import Monitor
from tests.pretraining.noise import CONFIG, Noise, trained


class CountedNoise(Noise):
    flops_per_token = 1_000


def lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log" / "metrics.jsonl").read_text().splitlines()]


def test_a_line_holds_what_the_run_computes_and_what_the_machine_does(tmp_path: Path) -> None:
    trained(CountedNoise(heldout=[1.0, 1.0]), tmp_path, log_interval=3, heldout_every=3, measure_peak=True)
    first, last = lines(tmp_path)
    assert (first["step"], last["step"]) == (3, 6)
    computed = {"loss", "perplexity", "lr", "grad_norm", "heldout_loss", "tokens"}
    rates = {"seconds", "tokens_per_second", "mfu", "peak_memory_bytes"}
    shares = {f"{name}_share" for name in ("data", "communication", "heldout", "checkpoint")}
    updates = {f"update_ratio.{name}" for name in ("matrices", "embedding", "vectors")}
    assert computed | rates | shares | updates <= set(last)
    assert last["communication_share"] == 0 and 0 < last["data_share"] < 1 and 0 < last["mfu"] < 1
    machine = json.loads((tmp_path / "log" / "machine.json").read_text())
    assert machine["matmul_peak_flops"] > 0 and machine["peak_memory_bytes"] > 0


def test_the_peak_is_not_measured_where_a_run_is_too_short_to_pay_for_it(tmp_path: Path) -> None:
    trained(CountedNoise(), tmp_path)
    assert json.loads((tmp_path / "log" / "machine.json").read_text())["matmul_peak_flops"] is None


def test_the_update_ratio_is_the_length_of_the_change_beside_that_of_the_weights(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(3.0)  # length 6
    with Monitor(tmp_path, CONFIG.model_copy(update={"log_interval": 1}), Noise(), 0) as monitor:
        with monitor.measuring_update(model, 1), torch.no_grad():
            model[0].weight[0, 0] = 3.0 + 0.5
        monitor.count({"step": 1, "tokens": 1}, 1)
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line["update_ratio.embedding"] == pytest.approx(0.5 / (3 * 9 + 3.5**2) ** 0.5)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=8))
def test_time_in_two_collectives_at_once_counts_once(spans: list[tuple[int, int]]) -> None:
    ends = [(start, start + length) for start, length in spans]
    assert covered(ends) == len({moment for start, end in ends for moment in range(start, end)})


def test_the_log_changes_no_bit_of_the_result(tmp_path: Path) -> None:
    often = trained(Noise(), tmp_path / "often", log_interval=1, trackers=("tensorboard",))
    seldom = trained(Noise(), tmp_path / "seldom", log_interval=1000)
    assert often.position == seldom.position


def test_a_resumed_run_has_each_line_once_even_after_half_a_line(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="run again"):
        trained(Noise(stopped=3), tmp_path, log_interval=1)
    with (tmp_path / "log" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 1}\n{"step": 5, "lo')
    trained(Noise(), tmp_path, log_interval=1)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_rewound_run_has_each_line_once(tmp_path: Path) -> None:
    spikes = {"window": 8, "rewind_every": 4, "on_spike": "rewind"}
    trained(Noise({10: 50.0}), tmp_path, max_steps=12, spikes=spikes, log_interval=1)
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 13))


def test_a_heldout_loss_that_is_no_number_is_said_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = trained(Noise(heldout=[float("nan"), 2.0]), tmp_path, heldout_every=3)
    assert "step 3 has no finite held-out loss" in caplog.text
    assert [row["step"] for row in made.position.curve if "heldout_loss" in row] == [6]


def test_tensorboard_gets_the_figures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(Noise(), tmp_path, log_interval=2, trackers=("tensorboard",))
    events = EventAccumulator(str(tmp_path / "log" / "tensorboard"))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    assert losses == [(line["step"], pytest.approx(line["loss"])) for line in lines(tmp_path)]
    assert "update_ratio/matrices" in events.Tags()["scalars"]


def test_without_tensorboard_the_run_says_so_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    trained(Noise(), tmp_path, trackers=("tensorboard",))
    assert "tensorboard is not installed" in caplog.text


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_other_trackers_get_the_figures_without_the_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip(name)
    trained(Noise(), tmp_path / "out", log_interval=2, trackers=(name,))
    written = list((tmp_path / "out" / "log").rglob("*.wandb")) + list(tmp_path.rglob("*.db"))
    assert len(written) == 1 and not capsys.readouterr().out
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_that_is_asked_for_and_absent_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=f"trackers: '{name}' is not installed"):
        trained(Noise(), tmp_path, trackers=(name,))
