"""Ways of training, a process each, that take turns on the same machine: rates, losses and memory of each."""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.trainers import Spec

HERE = Path(__file__).resolve()


@dataclasses.dataclass
class Runner:
    """One process of trainers.py."""

    name: str
    spec: Spec
    process: subprocess.Popen[str]
    first_step_seconds: float = 0.0
    seconds: list[float] = dataclasses.field(default_factory=list)
    cpu_seconds: list[float] = dataclasses.field(default_factory=list)
    losses: list[float] = dataclasses.field(default_factory=list)
    memory: int = 0
    heldout_nats: float | None = None

    @property
    def tokens_a_turn(self) -> int:
        """Tokens that a turn trains on."""
        return self.spec.steps_a_turn * self.spec.global_batch * self.spec.sequence_length

    @property
    def tokens_per_second(self) -> float:
        """The median over the turns."""
        return self.tokens_a_turn / statistics.median(self.seconds)

    @property
    def tokens_per_cpu_second(self) -> float:
        """The median over the turns; with one thread other work on the machine changes it little."""
        return self.tokens_a_turn / statistics.median(self.cpu_seconds)

    def tell(self) -> None:
        """Let it go on for a turn."""
        assert self.process.stdin is not None  # noqa: S101 - opened as a pipe below
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any] | None:
        """Return what it says next; None when it has died."""
        assert self.process.stdout is not None  # noqa: S101
        line = self.process.stdout.readline()
        return json.loads(line) if line else None


def race(specs: dict[str, Spec], threads: int) -> list[Runner]:
    """Return those that came to the end; turns are interleaved, and every process but one waits on a pipe."""
    runners = [started for name, spec in specs.items() if (started := _start(name, spec, threads))]
    for _ in range(max((runner.spec.turns for runner in runners), default=0)):
        for runner in runners:
            runner.tell()
            told = runner.hear()
            if told is None:
                sys.exit(f"{runner.name}: died in the middle of its turns")
            runner.seconds.append(told["seconds"])
            runner.cpu_seconds.append(told["cpu_seconds"])
    for runner in runners:
        runner.tell()
        last = runner.hear() or sys.exit(f"{runner.name}: died at its end")
        runner.losses, runner.memory, runner.heldout_nats = last["losses"], last["memory"], last["heldout_nats"]
        runner.process.wait()
    return runners


def _start(name: str, spec: Spec, threads: int) -> Runner | None:
    """Start a process and wait for its first step, which compiles; say so where it cannot be run."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(HERE.parents[2])}
    command = [sys.executable, str(HERE.parent / "trainers.py"), json.dumps(dataclasses.asdict(spec))]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True)
    runner = Runner(name, spec, process)
    told = runner.hear()
    if told is None:
        print(f"{name}: not measured, its process ended with status {process.wait()}; see above", flush=True)
        return None
    runner.first_step_seconds = told["seconds"]
    print(f"{name}: first step, compiling included, after {told['seconds']:.1f} s", flush=True)
    return runner


def table(runners: list[Runner], flops: int, peak: float) -> None:
    """Print a line a runner."""
    for runner in runners:
        rate = runner.tokens_per_second
        print(
            f"{runner.name}: {rate:,.0f} tokens/s, MFU {rate * flops / peak:.3f}, {runner.memory / 2**20:,.0f} MiB, "
            f"last loss {runner.losses[-1]:.5f}, turns {[round(one, 2) for one in runner.seconds]} s, "
            f"{runner.tokens_per_cpu_second:,.0f} tokens a CPU second"
        )


def furthest_apart(runners: list[Runner]) -> float:
    """Return by how much the losses of one step differ at most between two runners."""
    steps = zip(*(runner.losses for runner in runners), strict=True)
    return max(max(losses) - min(losses) for losses in steps)
