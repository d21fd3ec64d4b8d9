"""The training loop: steps of an objective with checkpoints between, and one result however often it is killed."""

import logging
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from pipelines.artifacts.curve import Row, finite
from pipelines.artifacts.errors import StageFailed
from pipelines.artifacts.progress import meter
from pipelines.artifacts.work import Progress, commit_progress, progress_dir
from pipelines.pretraining.averaging import Averages
from pipelines.pretraining.checkpoint import Snapshot
from pipelines.pretraining.compiling import compile_blocks, is_compiled
from pipelines.pretraining.curvature import Curvature, Sampling
from pipelines.pretraining.early_stopping import note_heldout
from pipelines.pretraining.engine import training_step
from pipelines.pretraining.faults import Answer, Watch, check_skips
from pipelines.pretraining.kept_memory import kept_memory
from pipelines.pretraining.losses import IGNORED
from pipelines.pretraining.machine import write_machine
from pipelines.pretraining.monitor import Monitor
from pipelines.pretraining.optimizer import check_optimizer
from pipelines.pretraining.position import Position
from pipelines.pretraining.precision import LossScale, arithmetic, prepare
from pipelines.pretraining.ready import check_same_run
from pipelines.pretraining.rng import ordered_sums, restore_rng, rng_tensors, seed_step
from pipelines.pretraining.saving import Checkpoints
from pipelines.pretraining.schedule import lr_scale
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.stopping import StopRequest, stop_on_sigterm
from pipelines.pretraining.world import ALONE, World

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor]


class Objective(Protocol):
    """What a model is trained on and for."""

    stage: str
    fingerprint: dict[str, Any]
    """Names the run: config, data and code. A checkpoint of another run is refused."""

    def batch(self, step: int) -> Batch:
        """Return inputs and targets of a whole step, `[sequences, tokens]` each; targets may be IGNORED."""
        ...

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss summed over the targets that count."""
        ...

    def measure(self, model: nn.Module) -> Row:
        """Return figures on held-out text."""
        ...


@runtime_checkable
class Reading(Protocol):
    """An objective that reads other tokens than it predicts."""

    def tokens(self, batch: Batch) -> int:
        """Return how many tokens of a batch are read."""
        ...


class Loop:
    """One run of an objective, from the newest checkpoint in the work directory to the last step."""

    def __init__(
        self, model: nn.Module, objective: Objective, config: LoopConfig, out: Path, world: World = ALONE
    ) -> None:
        samples = isinstance(objective, Sampling) and not world.parallel.cuts_model
        check_optimizer(config, cut=world.parallel.cuts_weights, sampling=samples)
        self.model, self.objective, self.config, self.world = model.to(config.device), objective, config, world
        self.out, self.log = out, out / "log" if world.first else progress_dir(out) / f"log-{world.rank}"
        prepare(model, config)
        if world.parallel.can_compile and is_compiled(config, model):
            compile_blocks(model)
        self.step = training_step(model, objective, config, world, self.log)
        self.loss, self.optimizers = self.step.loss, self.step.optimizers
        self.curvature = Curvature(self.step, objective)
        self.averages = Averages(model, config)
        self.watch = Watch(objective.stage, objective, config, self.log / "spikes")
        self.checkpoints = Checkpoints(progress_dir(out) / "checkpoints", config.keep_checkpoints, world)
        self.anchors = Checkpoints(progress_dir(out) / "anchors", 2, world)
        self.anchored = False
        self.position = Position()

    def run(self) -> None:
        """Train to the last step; the model, the optimizers and `position` are then the result.

        Raises StageFailed after too many skipped steps in a row or too many rewinds; the newest checkpoint then holds
        the last good weights.
        """
        self._resume()
        config, stage = self.config, self.objective.stage
        with (
            stop_on_sigterm() as stop,
            ordered_sums(config.device),
            kept_memory(config.device),
            self.checkpoints,
            self.anchors,
            meter(stage, total=config.max_steps, unit="steps", done=self.position.step) as counter,
            Monitor(self.log, config, self.objective, self.position.step, self.world) as self.monitor,
        ):
            saved = self.position.step
            while not self.position.is_finished(config.max_steps):
                self._anchor()
                step, tokens = self.position.step, self.position.tokens
                row = self._step(stop)
                if row is None:
                    break
                position, rewound = self.position, not row
                if not rewound:
                    self.monitor.count(row, position.tokens - tokens)
                shown = {name: row[name] for name in ("loss", "heldout_loss") if name in row}
                counter.advance(position.step - step, **shown, **self.monitor.rate())
                self._commit(self.checkpoints.settle())
                self.anchors.settle()
                ended = check_skips(position, config)
                last = position.is_finished(config.max_steps) or (ended is not None and position.taken > 0)
                if position.step % config.checkpoint_every == 0 or last or rewound:
                    self._save()
                    saved = position.step
                if ended is not None:
                    self._commit(self.checkpoints.settle(now=True))
                    raise StageFailed(f"{stage}: {ended}")
            if saved < self.position.step:
                self._save()
            self._commit(self.checkpoints.finish(self.position.step, stage))
        if not self.position.is_finished(config.max_steps):
            raise StageFailed(f"{stage}: stopped after step {self.position.step}; run again to go on")
        write_machine(self.log, config, self.monitor.peak)

    def choose_weights(self) -> None:
        """Put the weights that the config publishes into the model, when the run's state is written."""
        self.averages.into_model()

    def snapshot(self) -> Snapshot:
        """Return the whole state between two steps."""
        position = self.position
        facts = {item.name: getattr(position, item.name) for item in fields(position) if item.name != "curve"}
        tensors = {
            **self.step.tensors(),
            "rng": rng_tensors(),
            "averages": self.averages.tensors(),
        }
        facts |= {"loss_scale": asdict(self.step.scale), "run": self.objective.fingerprint}
        return Snapshot(tensors, facts, position.curve)

    def whole(self) -> Snapshot:
        """Return the state after the last step with whole tensors in host memory; every process must ask.

        What several processes hold in parts comes from the checkpoint that they have just written together.
        """
        if self.world.mesh is None:
            own = self.snapshot()
            groups = {group: {name: at.cpu() for name, at in held.items()} for group, held in own.tensors.items()}
            return Snapshot(groups, own.facts, own.curve)
        newest = self.checkpoints.newest()
        if newest is None or newest.facts["step"] != self.position.step:
            raise StageFailed(f"{self.objective.stage}: the checkpoint after the last step is damaged; run again")
        return newest

    def figures(self) -> Row:
        """Return the counters and the last value of each figure of the curve."""
        position = self.position
        last = {name: value for row in position.curve for name, value in row.items()}
        left_out = {"step", "tokens", "lr", "grad_norm"}
        return {
            "steps": float(position.step),
            "tokens": float(position.tokens),
            "skipped_steps": float(position.skipped),
            "spikes": float(position.spikes),
            "rewinds": float(position.rewinds),
            **{name: value for name, value in last.items() if name not in left_out},
        }

    def load(self, snapshot: Snapshot) -> None:
        """Take over the weights, the optimizers' state and the generators of a snapshot."""
        self.step.load(snapshot.tensors)
        self.averages.load(snapshot.tensors["averages"])
        restore_rng(snapshot.tensors["rng"])

    def _resume(self) -> None:
        snapshot = self.checkpoints.newest() or self.anchors.newest()
        if snapshot is None:
            return
        run, own = snapshot.facts.get("run", {}), self.objective.fingerprint
        check_same_run(self.objective.stage, self.checkpoints.folder, run, own)
        self.position = self._take_up(snapshot)
        self.anchors.remove_after(self.position.step)
        self.anchored = bool(self.anchors.steps())
        logger.info("%s: going on after step %d", self.objective.stage, self.position.step)

    def _take_up(self, snapshot: Snapshot) -> Position:
        """Load a snapshot of this run and return its position."""
        facts = {name: value for name, value in snapshot.facts.items() if name != "run"}
        self.step.scale = LossScale(**facts.pop("loss_scale"))
        self.load(snapshot)
        return Position(**facts, curve=list(snapshot.curve))

    def _anchor(self) -> None:
        """Keep the state every few steps, beside the checkpoints, where the run may have to go back to it."""
        spikes, step = self.config.spikes, self.position.step
        if spikes.on_spike == "rewind" and (step % spikes.rewind_every == 0 or not self.anchored):
            self.anchors.save(step, self.snapshot())
            self.anchored = True

    def _rewind(self) -> None:
        anchor = self.anchors.newest()
        if anchor is None:
            raise StageFailed(
                f"{self.objective.stage}: the state to go back to is damaged; set spikes.on_spike to skip"
            )
        self.position = self.position.rewound(self._take_up(anchor))
        self.checkpoints.remove_after(self.position.step - 1)

    def _save(self) -> None:
        with self.monitor.waiting("checkpoint"):
            self.anchors.settle(now=True)  # no checkpoint is on disk before the state that it may have to go back to
            self._commit(self.checkpoints.save(self.position.step, self.snapshot()))

    def _commit(self, step: int | None) -> None:
        """Record that the checkpoint after so many steps is whole, if one has just become so."""
        if step is not None and self.world.first:
            commit_progress(self.out, Progress(step, self.config.max_steps, "steps"))

    def _step(self, stop: StopRequest) -> Row | None:
        """Take one step and return its figures; None, and everything as it was, when asked to stop in its midst."""
        config, position = self.config, self.position
        self.model.train()
        with self.monitor.waiting("data"):
            batch = self.objective.batch(position.batch)
        inputs, targets = (whole[self.world.rows(config.global_batch)] for whole in batch)
        lr = config.lr * lr_scale(config, position.step)
        seed_step(config.seed, position.step, self.world.rank)
        with self.monitor.watching_collectives(position.step + 1):
            taken = self.step.gradients(inputs, targets, lambda: self.world.any(stop.made))
        if taken is None:
            return None
        self.monitor.note(position.step + 1, self.loss.figures)
        row: Row = {"step": position.step + 1}
        answer = self.watch.judge(taken, batch, position, lr)
        if answer is Answer.REWIND:
            self.step.forget_gradients()
            self._rewind()
            return {}
        position.step += 1
        position.tokens += self._tokens(batch)
        if answer is Answer.TAKE:
            with self.monitor.measuring_update(self.model, position.step):
                self.curvature.update(position.step, inputs, targets)
                self.step.apply(lr)
            self.averages.update(position.step)
            row |= {"loss": taken["loss"], "lr": lr, "grad_norm": taken["grad_norm"]}
        else:
            self.step.forget_gradients()
        row["tokens"] = position.tokens
        if position.step % config.heldout_every == 0 or position.step == config.max_steps:
            row |= self._measure()
        if len(row) > 2:
            position.curve.append(row)
        return row

    def _tokens(self, batch: Batch) -> int:
        if isinstance(self.objective, Reading):
            return self.objective.tokens(batch)
        return int((batch[1] != IGNORED).sum())

    def _measure(self) -> Row:
        """Return the figures on held-out text that are finite, and see what they mean for the run."""
        self.model.eval()
        with (
            torch.no_grad(),
            arithmetic(self.config),
            self.monitor.waiting("heldout"),
            self.loss.measuring() as model,
        ):
            measured = self.objective.measure(model)
        measured = dict(zip(measured, self.world.said_by_first(list(measured.values())), strict=True))
        if "heldout_loss" in measured and note_heldout(self.position, measured["heldout_loss"], self.config.patience):
            self.averages.keep_best()
        if len(kept := finite(measured)) < len(measured):
            logger.warning("%s: step %d has no finite held-out loss", self.objective.stage, self.position.step)
        return kept
