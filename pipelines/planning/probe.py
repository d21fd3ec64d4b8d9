"""Measuring what a run takes: the stage `pretrain` itself, for a few steps of the run's shape, on random tokens.

Run as `python -m pipelines.planning.probe JOB`, in a process of its own: it sets a limit on memory, and the table of
sizes is its own to change.
"""

import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pipelines.artifacts.peak import PeakMemory
from pipelines.artifacts.progress import line_sink
from pipelines.models.architectures import ARCHITECTURES
from pipelines.models.sizes import SIZES
from pipelines.planning.calibration import Calibration
from pipelines.planning.calibration import now as today
from pipelines.planning.counts import counts_of, is_compiled, parts_of_a_step, rows_at_once
from pipelines.planning.energy import EnergyCounter
from pipelines.planning.random_tokens import write_inputs
from pipelines.pretraining.monitor import PEAK_DTYPES
from pipelines.pretraining.peak import matmul_peak
from pipelines.pretraining.pretrain import PretrainConfig, pretrain

WARMUP = 2
"""Steps that are not counted: the first ones fetch memory and build the optimizer's state."""
LAST = 3
"""Steps at the end that do something else as well: after a checkpoint, with a line of the log, with a held-out loss."""
FEWEST, MOST = 4, 40
"""Plain steps that are measured."""
PLAIN_SECONDS = 2.0
"""What they should take together."""
LONGEST = 45.0
"""Seconds that measuring a whole model may take; of a deeper one, two shallower models are measured."""
UNMEASURABLE = 300.0
"""Seconds from which on measuring is no part of a plan any more."""
USUAL_MFU = 0.25
"""Share of the best product's operations that training reaches on a CPU, to guess how long measuring will take."""
PIECES = ("micro_batch_seconds", "update_seconds")


@dataclass(frozen=True)
class Steps:
    """What a short run took."""

    plain: list[float]
    curved: list[float]
    checkpoint: float
    line: float
    heldout: float
    fixed: float
    memory: int
    watts: float | None

    @property
    def typical(self) -> float:
        """The time of a step that does nothing else."""
        return statistics.median(self.plain)

    @property
    def spread(self) -> float:
        """Half of the distance between the quartiles, as a share of the median."""
        low, _, high = statistics.quantiles(self.plain, n=4)
        return (high - low) / 2 / self.typical


Now = Callable[[], float]
CLOCKS: dict[str, Now] = {"wall": time.perf_counter, "cpu": time.process_time}
"""What seconds are counted by: those that pass, or those that this process computes, whatever else the machine does."""


class Clock:
    """Notes when each step ended, in the place of a progress bar."""

    def __init__(self, counter: EnergyCounter, now: Now) -> None:
        self.counter, self.now = counter, now
        self.times, self.watts = list[float](), dict[int, float | None]()

    def show(self, what: str, done: float, total: float | None, unit: str, figures: dict[str, float]) -> None:
        """Note the end of a step, and the power since the last note at the first and the last that count."""
        self.times.append(self.now())
        if len(self.times) in (WARMUP, int(total or 0) - LAST):
            self.watts[len(self.times)] = self.counter.watts()

    def end(self) -> None:
        """Leave the notes as they are."""


def measure(config: PretrainConfig, vocab_size: int, loading: float = 0.0, now: Now = time.perf_counter) -> Calibration:
    """Return what the parts of a run of this config take on this machine.

    A model that takes too long is measured with fewer blocks, twice. Raises TooLong where that takes minutes too.
    `loading` is what loading the libraries took before this was called.
    """
    found = _measured(config, vocab_size, now)
    return found.model_copy(update={"fixed_seconds": found.fixed_seconds + loading})


class TooLong(Exception):
    """Measuring would take minutes."""


def _measured(config: PretrainConfig, vocab_size: int, now: Now) -> Calibration:
    peak = matmul_peak(config.device, PEAK_DTYPES[config.dtype])
    guess = _micro_batch_flops(config, vocab_size) / peak / USUAL_MFU
    whole = SIZES[config.size].n_layer
    runs = (2 if parts_of_a_step(config) > 1 else 1) * (WARMUP + LAST + FEWEST) * 1.5
    if guess * runs <= LONGEST:
        return _whole(config, vocab_size, now, peak, guess)
    step = 3 if ARCHITECTURES[config.architecture].window else 1  # one block of three sees everything
    if guess * runs * 2 * step / whole > UNMEASURABLE or whole <= 2 * step:
        raise TooLong(f"{guess * runs:,.0f} s")
    return _reckoned(config, vocab_size, now, peak, guess / whole, (step, 2 * step))


def _micro_batch_flops(config: PretrainConfig, vocab_size: int) -> float:
    counts = counts_of(config, vocab_size)
    return counts.flops / counts.tokens * rows_at_once(config) * config.sequence_length


def _whole(config: PretrainConfig, vocab_size: int, now: Now, peak: float, guess: float) -> Calibration:
    """Measure the run's own model, with one micro-batch a step and, where a step has more, with two."""
    if parts_of_a_step(config) == 1:
        once = _steps(config, vocab_size, now, 1, guess)
        pieces = dict(zip(PIECES, (once.typical, 0.0), strict=True))
        return _calibration(config, [once], pieces, peak, (SIZES[config.size].n_layer,))
    once, twice = (_steps(config, vocab_size, now, parts, guess) for parts in (1, 2))
    micro = max(twice.typical - once.typical, 0.0)
    pieces = dict(zip(PIECES, (micro, max(once.typical - micro, 0.0)), strict=True))
    return _calibration(config, [twice, once], pieces, peak, (SIZES[config.size].n_layer,))


def _reckoned(
    config: PretrainConfig, vocab_size: int, now: Now, peak: float, guess: float, depths: tuple[int, int]
) -> Calibration:
    """Measure models of fewer blocks and add what each further block takes: time and memory are linear in them."""
    size, whole = config.size, SIZES[config.size]
    few, more = depths
    try:
        SIZES[size] = replace(whole, n_layer=few)
        base, weights = _steps(config, vocab_size, now, 1, guess * few), counts_of(config, vocab_size).parameters
        twice = _steps(config, vocab_size, now, 2, guess * few)
        SIZES[size] = replace(whole, n_layer=more)
        deeper, more_weights = (
            _steps(config, vocab_size, now, 1, guess * more),
            counts_of(config, vocab_size).parameters,
        )
    finally:
        SIZES[size] = whole
    further = (whole.n_layer - few) / (more - few)
    micro = max(twice.typical - base.typical, 0.0)
    update = max(base.typical - micro, 0.0)
    block_update = update * (more_weights - weights) / weights
    block_micro = max(deeper.typical - base.typical - block_update, 0.0)
    pieces = dict(zip(PIECES, (micro + further * block_micro, update + further * block_update), strict=True))
    grown = replace(
        twice,
        checkpoint=_further(base.checkpoint, deeper.checkpoint, further),
        line=_further(base.line, deeper.line, further),
        heldout=_further(base.heldout, deeper.heldout, further),
        memory=round(max(base.memory, twice.memory) + max(deeper.memory - base.memory, 0) * further),
    )
    return _calibration(config, [grown], pieces, peak, depths)


def _further(base: float, deeper: float, further: float) -> float:
    return base + max(deeper - base, 0.0) * further


def _calibration(
    config: PretrainConfig, runs: list[Steps], pieces: dict[str, float], peak: float, depths: tuple[int, ...]
) -> Calibration:
    first = runs[0]
    curved = statistics.median(first.curved) - first.typical if first.curved else 0.0
    parts = parts_of_a_step(config)
    return Calibration(
        **pieces,
        curvature_seconds=max(curved, 0.0) * parts / min(parts, 2),
        line_seconds=max(first.line - first.typical, 0.0),
        heldout_seconds=max(first.heldout - first.typical, 0.0),
        checkpoint_seconds=max(first.checkpoint - first.typical, 0.0),
        fixed_seconds=max(run.fixed for run in runs),  # only the first run of a process loads the libraries
        spread=max(run.spread for run in runs),
        memory_bytes=max(run.memory for run in runs),
        peak_flops=peak,
        watts=first.watts,
        watts_source=EnergyCounter(config.device).source,
        threads=torch.get_num_threads(),
        depths=depths,
        measured_at=today(),
    )


def _steps(config: PretrainConfig, vocab_size: int, now: Now, parts: int, guess: float) -> Steps:
    """Run a few steps of so many micro-batches each."""
    plain = min(MOST, max(FEWEST, round(PLAIN_SECONDS / (guess * parts))))
    steps = WARMUP + plain + LAST
    rows, length = rows_at_once(config), config.sequence_length
    short = config.model_copy(
        update={
            "max_steps": steps,
            "global_batch": rows * parts,
            "compile": "always" if is_compiled(config, vocab_size) else "never",
            "checkpoint_every": steps - LAST if config.checkpoint_every < config.max_steps else steps,
            "heldout_every": steps,
            "log_interval": steps - 1,
            "measure_peak": False,
            "trackers": tuple(name for name in config.trackers if name == "tensorboard"),
            "init_from": None,
            "mixture": type(config.mixture)(),
            "patience": type(config.patience)(),
            "spikes": type(config.spikes)(on_spike="keep"),
            "sophia": config.sophia.model_copy(update={"every": 2}),
        }
    )
    with tempfile.TemporaryDirectory(prefix="gristmill-") as made:
        folder = Path(made)
        inputs = write_inputs(
            folder,
            vocab_size,
            train=(steps + 2) * rows * parts * length + 1,
            heldout=config.heldout_sequences * length + 1,
        )
        clock, memory = Clock(EnergyCounter(config.device), now), PeakMemory()
        token = line_sink.set(lambda: clock)
        start = now()
        try:
            pretrain(short, **inputs, out=folder / "out")
        finally:
            line_sink.reset(token)
        end = now()
        held = memory.bytes() if config.device == "cpu" else _gpu_memory(folder / "out")
    return _sorted_out(config, clock, start, end, held)


def _gpu_memory(out: Path) -> int:
    machine: dict[str, Any] = json.loads((out / "log" / "machine.json").read_text())
    return int(machine["peak_memory_bytes"])


def _sorted_out(config: PretrainConfig, clock: Clock, start: float, end: float, memory: int) -> Steps:
    """Tell the steps apart by what they did; step `n` ended at `times[n - 1]`."""
    seconds = [later - earlier for earlier, later in zip(clock.times, clock.times[1:], strict=False)]
    plain, (checkpoint, line, heldout) = seconds[WARMUP - 1 : -LAST], seconds[-LAST:]
    curved: list[float] = []
    if config.optimizer == "sophia":  # every second step from the first one on
        curved, plain = plain[WARMUP % 2 :: 2], plain[1 - WARMUP % 2 :: 2]
    typical = statistics.median(plain)
    return Steps(
        plain=plain,
        curved=curved,
        checkpoint=checkpoint,
        line=line,
        heldout=heldout,
        fixed=clock.times[0] - start - typical + end - clock.times[-1],
        memory=memory,
        watts=clock.watts.get(len(clock.times) - LAST),
    )


def main(job: Path) -> None:
    """Measure the config of a job and write what came of it beside it: a calibration, or why there is none."""
    loading = time.process_time()  # what this process has done so far
    told = json.loads(job.read_text())
    config = PretrainConfig.model_validate_json(json.dumps(told["config"]))
    if config.device == "cpu":
        resource.setrlimit(resource.RLIMIT_DATA, (told["memory_bytes"], resource.RLIM_INFINITY))
    answer: dict[str, Any]
    try:
        answer = {
            "calibration": measure(config, told["vocab_size"], loading, CLOCKS[told["clock"]]).model_dump(mode="json")
        }
    except TooLong as error:
        answer = {"too_long": str(error)}
    except torch.OutOfMemoryError:
        answer = {"no_memory": torch.cuda.get_device_properties(0).total_memory}
    except MemoryError:
        answer = {"no_memory": told["memory_bytes"]}
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        answer = {"no_memory": told["memory_bytes"]}
    job.with_suffix(".answer").write_text(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
