"""What a run tells of itself while it lasts: a line of figures every few steps, for a file and for trackers.

The curve holds what the run computes; here is also what depends on the machine, and is no result: rates, shares of the
time, memory.
"""

import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from pipelines.artifacts.curve import Row, as_lines, finite
from pipelines.pretraining.communication import communicating
from pipelines.pretraining.machine import memory
from pipelines.pretraining.optimizer import weight_groups
from pipelines.pretraining.peak import matmul_peak
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.trackers import open_trackers
from pipelines.pretraining.world import ALONE, World

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
LONG_RUN_FLOPS = {"cpu": 6e13, "cuda": 6e16}
"""Work from which on a run pays for measuring the peak, which takes seconds: a minute of a fast machine."""
PEAK_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}
"""Products that MFU is a share of; that of fp8 is told as a share of bf16's, so that the two compare."""


@runtime_checkable
class Counted(Protocol):
    """An objective whose operations are known."""

    flops_per_token: int


@runtime_checkable
class Watched(Protocol):
    """An objective that has figures of its own for a line."""

    def figures(self, world: World) -> Row:
        """Return the figures since the last line; every process must ask."""
        ...


class Monitor(AbstractContextManager["Monitor"]):
    """Collects the figures of steps and writes a line every `log_interval` of them to `metrics.jsonl`."""

    def __init__(self, folder: Path, config: LoopConfig, objective: object, step: int, world: World = ALONE) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.config, self.world = folder / METRICS_FILE, config, world
        self.flops_per_token = objective.flops_per_token if isinstance(objective, Counted) else None
        self.watched = objective if isinstance(objective, Watched) else None
        self.peak = self._measured_peak()
        self._forget_after(step)
        self.trackers = open_trackers(config, folder, step) if world.first else []
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._figures: Row = {}
        self._step, self._tokens, self._rate, self._since = step, 0, 0.0, time.monotonic()

    def __exit__(self, *_: object) -> None:
        for tracker in self.trackers:
            tracker.close()

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Count the time of the block as spent on `what`: "data", "heldout" or "checkpoint"."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._seconds[what] += time.monotonic() - start

    @contextmanager
    def measuring_update(self, model: nn.Module, step: int) -> Iterator[None]:
        """Measure how long the change of each group of weights is beside the weights, at steps that get a line.

        The weights are held twice meanwhile.
        """
        if step % self.config.log_interval:
            yield
            return
        names = {weight: name for name, weight in model.named_parameters()}
        groups = {
            group: {names[weight]: weight.detach() for weight in weights}
            for group, weights in weight_groups(model).items()
        }
        before = {weight: tensor.clone() for weights in groups.values() for weight, tensor in weights.items()}
        yield
        for group, weights in groups.items():
            length = self.world.length(weights)
            change = self.world.length({name: weight - before.pop(name) for name, weight in weights.items()})
            if length:
                self._figures[f"update_ratio.{group}"] = change / length

    @contextmanager
    def watching_collectives(self, step: int) -> Iterator[None]:
        """Measure the share of the block in which a collective is under way, at steps that get a line."""
        if self.world.size == 1 or step % self.config.log_interval:
            yield
            return
        with communicating() as share:
            yield
        self._figures["communication_share"] = share.value

    def note(self, step: int, figures: Callable[[], Row]) -> None:
        """Take further figures, which every process must ask for, at steps that get a line."""
        if step % self.config.log_interval == 0:
            self._figures |= figures()

    def count(self, row: Row, tokens: int) -> None:
        """Take the figures of a step of so many tokens; write a line where one is due."""
        step = int(row["step"])
        if step <= self._step:
            self._forget_after(step - 1)
        self._step = step
        self._tokens += tokens
        self._figures |= row
        if step % self.config.log_interval == 0:
            self._write(step)

    def rate(self) -> Row:
        """Return the tokens a second of the newest line, to be shown."""
        return {"tok/s": self._rate} if self._rate else {}

    def _write(self, step: int) -> None:
        now = time.monotonic()
        seconds = now - self._since
        self._rate = self._tokens / seconds
        line = {**self._figures, "seconds": seconds, "tokens_per_second": self._rate}
        if "loss" in line:
            line["perplexity"] = math.exp(min(line["loss"], 700.0))
        if self.peak and self.flops_per_token:
            line["mfu"] = self._rate * self.flops_per_token / (self.peak * self.world.size)
        if self.watched:
            line |= self.watched.figures(self.world)
        line |= {f"{what}_share": self._seconds[what] / seconds for what in ("checkpoint", "data", "heldout")}
        line.setdefault("communication_share", 0.0)
        line = finite(line | memory(self.config.device))
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            for tracker in self.trackers:
                tracker.write(step, line)
        except OSError as error:  # a full disk costs the log and not the run
            logger.warning("log: the figures of step %d could not be written (%s)", step, error)
        self._figures = {}
        self._seconds.clear()
        self._tokens, self._since = 0, now

    def _forget_after(self, step: int) -> None:
        """Take the lines of later steps away: the run is about to write them again."""
        if self.path.exists():
            kept = as_lines(row for row in _readable(self.path) if row["step"] <= step)
            self.path.write_text(kept)

    def _measured_peak(self) -> float | None:
        config, flops = self.config, self.flops_per_token or 0
        tokens = config.max_steps * config.global_batch * config.sequence_length
        pays = tokens * flops >= LONG_RUN_FLOPS[config.device]
        if config.measure_peak is False or not (config.measure_peak or pays):
            return None
        return matmul_peak(config.device, PEAK_DTYPES[config.dtype])


def _readable(path: Path) -> Iterator[Row]:
    """Yield the lines that are whole; a killed run may have left half a one at the end."""
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return
