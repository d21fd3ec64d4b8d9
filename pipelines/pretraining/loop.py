"""The training loop: steps of an objective with checkpoints between, and one result however often it is killed."""

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipelines.artifacts.curve import Row
from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.progress import meter
from pipelines.artifacts.work import Progress, commit_progress, progress_dir
from pipelines.pretraining.checkpoint import Checkpoints, Snapshot
from pipelines.pretraining.compiling import compile_blocks, is_compiled
from pipelines.pretraining.losses import IGNORED
from pipelines.pretraining.monitor import RateLog, write_machine
from pipelines.pretraining.optimizer import build_optimizers, load_optimizer_tensors
from pipelines.pretraining.optimizer import optimizer_tensors as tensors_of
from pipelines.pretraining.rng import restore_rng, rng_tensors
from pipelines.pretraining.schedule import lr_scale
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.step import TrainingStep, is_finite
from pipelines.pretraining.stopping import StopRequest, stop_on_sigterm

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor]


class Objective(Protocol):
    """What a model is trained on and for."""

    stage: str
    fingerprint: str
    """Names the run: config and data. A checkpoint of another run is refused."""

    def batch(self, step: int) -> Batch:
        """Return inputs and targets of a whole step, `[sequences, tokens]` each; targets may be IGNORED."""
        ...

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss summed over the targets that count."""
        ...

    def measure(self, model: nn.Module) -> Row:
        """Return figures on held-out text."""
        ...


@dataclass
class Position:
    """Where a run stands between two steps."""

    step: int = 0
    tokens: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    curve: list[Row] = field(default_factory=list)


class Loop:
    """One run of an objective, from the newest checkpoint in the work directory to the last step."""

    def __init__(self, model: nn.Module, objective: Objective, config: LoopConfig, out: Path) -> None:
        self.model, self.objective, self.config, self.out = model.to(config.device), objective, config, out
        if is_compiled(config, model):
            compile_blocks(model)
        self.optimizers: list[Optimizer] = build_optimizers(model, config)
        self.step = TrainingStep(model, self.optimizers, objective.loss, config)
        self.checkpoints = Checkpoints(progress_dir(out) / "checkpoints", config.keep_checkpoints)
        self.position = Position()

    def run(self) -> None:
        """Train to the last step; the model, the optimizers and `position` are then the result.

        Raises StageFailed after too many steps in a row without a finite gradient.
        """
        self._resume()
        config, position = self.config, self.position
        rates = RateLog(self.out / "log", config.log_interval)
        with (
            stop_on_sigterm() as stop,
            meter(self.objective.stage, total=config.max_steps, unit="steps", done=position.step) as counter,
        ):
            saved = position.step
            while position.step < config.max_steps and not stop.made:
                tokens, before = position.tokens, position.step
                figures = self._step(stop)
                if position.step == before:
                    break
                rates.count(position.step, position.tokens - tokens)
                counter.advance(**figures)
                if position.step % config.checkpoint_every == 0 or position.step == config.max_steps:
                    self._save()
                    saved = position.step
            if saved < position.step:
                self._save()
        if position.step < config.max_steps:
            raise StageFailed(f"{self.objective.stage}: stopped after step {position.step}; run again to go on")
        write_machine(self.out / "log", config)

    def snapshot(self) -> Snapshot:
        """Return the whole state between two steps."""
        facts = asdict(self.position)
        curve = facts.pop("curve")
        weights = {name: weight.detach() for name, weight in self.model.named_parameters()}
        return Snapshot(
            weights,
            tensors_of(self.model, self.optimizers),
            rng_tensors(),
            {**facts, "fingerprint": self.objective.fingerprint},
            curve,
        )

    def figures(self) -> Row:
        """Return the counters and the last value of each figure of the curve."""
        position = self.position
        last = {name: value for row in position.curve for name, value in row.items()}
        left_out = {"step", "tokens", "lr", "grad_norm"}
        return {
            "steps": float(position.step),
            "tokens": float(position.tokens),
            "skipped_steps": float(position.skipped),
            **{name: value for name, value in last.items() if name not in left_out},
        }

    def load(self, snapshot: Snapshot) -> None:
        """Take over the weights, the optimizers' state and the generators of a snapshot."""
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.copy_(snapshot.model[name])
        load_optimizer_tensors(self.model, self.optimizers, snapshot.optimizer)
        restore_rng(snapshot.rng)

    def _resume(self) -> None:
        snapshot = self.checkpoints.newest()
        if snapshot is None:
            return
        facts = dict(snapshot.facts)
        if facts.pop("fingerprint") != self.objective.fingerprint:
            raise UserError(
                f"{self.objective.stage}: {self.checkpoints.folder} holds checkpoints of other settings or data; "
                "name another folder or remove it"
            )
        self.load(snapshot)
        self.position = Position(**facts, curve=list(snapshot.curve))
        logger.info("%s: going on after step %d", self.objective.stage, self.position.step)

    def _save(self) -> None:
        self.checkpoints.save(self.position.step, self.snapshot())
        commit_progress(self.out, Progress(self.position.step, self.config.max_steps, "steps"))

    def _step(self, stop: StopRequest) -> Row:
        """Take one step and return its figures; leave everything as it was when asked to stop in its midst."""
        config, position = self.config, self.position
        self.model.train()
        inputs, targets = self.objective.batch(position.step)
        lr = config.lr * lr_scale(config, position.step)
        taken = self.step.take(inputs, targets, lr, lambda: stop.made)
        if taken is None:
            return {}
        row: Row = {"step": position.step + 1}
        if is_finite(taken):
            position.skipped_in_a_row = 0
            row |= taken
        else:
            self._count_skip(taken["loss"], taken["grad_norm"])
        position.step += 1
        position.tokens += int((targets != IGNORED).sum())
        row["tokens"] = position.tokens
        if position.step % config.heldout_every == 0 or position.step == config.max_steps:
            with torch.no_grad(), self.step.arithmetic():
                self.model.eval()
                row |= self.objective.measure(self.model)
        if len(row) > 2:
            position.curve.append(row)
        return {name: value for name, value in row.items() if name in ("loss", "heldout_loss")}

    def _count_skip(self, loss: float, norm: float) -> None:
        position, stage = self.position, self.objective.stage
        position.skipped += 1
        position.skipped_in_a_row += 1
        logger.warning("%s: step %d skipped (loss %s, gradient %s)", stage, position.step + 1, loss, norm)
        if position.skipped_in_a_row >= self.config.max_skips:
            raise StageFailed(
                f"{stage}: {position.skipped_in_a_row} steps in a row had no finite loss and gradient, the last was "
                f"step {position.step + 1} with loss {loss}; lower lr or look at the data"
            )
