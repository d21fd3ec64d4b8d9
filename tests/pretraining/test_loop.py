import math
import signal
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from pipelines.artifacts.errors import StageFailed
from pipelines.artifacts.work import read_progress
from pipelines.models.build import build
from pipelines.pretraining.loop import Batch, Loop
from pipelines.pretraining.losses import causal_cross_entropy
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.stopping import stop_on_sigterm

CONFIG = LoopConfig(max_steps=6, global_batch=2, warmup_steps=1, sequence_length=16, micro_batch=1, checkpoint_every=2)


class Noise:
    """Random ids; some steps have a loss that is no number, and one may be interrupted."""

    stage = "noise"
    fingerprint: ClassVar = {"config": {}, "inputs": {}, "code": "one"}

    def __init__(self, broken: tuple[int, ...] = (), stopped: int | None = None) -> None:
        self.broken, self.stopped, self.now = broken, stopped, 0

    def batch(self, step: int) -> Batch:
        self.now = step
        if step == self.stopped:
            signal.raise_signal(signal.SIGTERM)
        ids = torch.randint(6, 262, (2, 17), generator=torch.Generator().manual_seed(step))
        return ids[:, :-1], ids[:, 1:]

    def loss(self, model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        loss = causal_cross_entropy(model, inputs, targets)
        return loss * math.nan if self.now in self.broken else loss

    def measure(self, model: Any) -> dict[str, float]:
        return {"heldout_loss": 1.0}


def loop(objective: Noise, out: Path, **changes: Any) -> Loop:
    torch.manual_seed(0)
    return Loop(build("tiny", 262, 16), objective, CONFIG.model_copy(update=changes), out)


def weights(trained: Loop) -> list[Tensor]:
    return [weight.detach().clone() for weight in trained.model.parameters()]


def test_a_step_without_a_finite_loss_is_skipped_and_counted(tmp_path: Path) -> None:
    trained = loop(Noise(broken=(2,)), tmp_path)
    trained.run()
    assert trained.figures()["skipped_steps"] == 1
    assert [row["step"] for row in trained.position.curve] == [1, 2, 4, 5, 6]


def test_a_skipped_step_leaves_weights_and_optimizer_as_they_were(tmp_path: Path) -> None:
    short = loop(Noise(), tmp_path / "short", max_steps=2, schedule="wsd", decay_fraction=0.0)
    short.run()
    skipping = loop(Noise(broken=(2,)), tmp_path / "long", max_steps=3, schedule="wsd", decay_fraction=0.0)
    skipping.run()
    assert all(torch.equal(one, other) for one, other in zip(weights(short), weights(skipping), strict=True))
    one, other = short.snapshot().tensors["optimizer"], skipping.snapshot().tensors["optimizer"]
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_steps_without_a_finite_loss_one_after_another_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="3 steps in a row were skipped"):
        loop(Noise(broken=(1, 2, 3)), tmp_path, max_skips=3).run()


def test_only_steps_in_a_row_are_counted_towards_the_end(tmp_path: Path) -> None:
    trained = loop(Noise(broken=(0, 1, 3, 4)), tmp_path, max_skips=3)
    trained.run()
    assert trained.figures()["skipped_steps"] == 4


def test_sigterm_saves_the_last_step_and_then_does_what_it_did_before(tmp_path: Path) -> None:
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with pytest.raises(StageFailed, match="stopped after step 3; run again to go on"):
            loop(Noise(stopped=3), tmp_path / "out").run()
    finally:
        signal.signal(signal.SIGTERM, before)
    progress = read_progress(tmp_path / "out")
    assert heard == [signal.SIGTERM] and progress is not None and progress.done == 3

    resumed, calm = loop(Noise(), tmp_path / "out"), loop(Noise(), tmp_path / "calm")
    resumed.run()
    calm.run()
    assert all(torch.equal(one, other) for one, other in zip(weights(resumed), weights(calm), strict=True))
    assert resumed.position == calm.position


def test_a_thread_that_cannot_hear_signals_trains_too() -> None:
    made = []

    def listen() -> None:
        with stop_on_sigterm() as request:
            made.append(request.made)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert made == [False]


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    loop(Noise(), tmp_path, keep_checkpoints=2).run()
    kept = sorted(path.name for path in (tmp_path / ".progress" / "checkpoints").iterdir())
    assert kept == ["step-000004", "step-000006"]


def test_the_log_has_the_rates_and_the_memory(tmp_path: Path) -> None:
    loop(Noise(), tmp_path, log_interval=3).run()
    assert len((tmp_path / "log" / "metrics.jsonl").read_text().splitlines()) == 2
    assert "peak_memory_bytes" in (tmp_path / "log" / "machine.json").read_text()
