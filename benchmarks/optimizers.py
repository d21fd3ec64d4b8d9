"""What a model has learnt after the same tokens: five optimizers, and the recipe of docs/optimization.md.

First each optimizer trains a small Llama at some learning rates; the rate whose last training losses are lowest is
then run with two further seeds. Then the recipe `thrifty` and a plain AdamW-Llama, whose rate is swept in the same way,
train the 20 M model of `pretrain_cpu` on 327,680 tokens of the novels, three seeds each. Held-out text chooses nothing.
bf16 where the CPU has its products, else fp32; on two quiet cores it takes an hour. `optimizers.py sweep` and
`optimizers.py recipe` take one part alone, so that two cores with OMP_NUM_THREADS=1 can take both at once.
OPTIMIZERS_SHORT=1 takes some steps of a tiny model and one seed, to see that it runs. The last line is one JSON object.
"""

import json
import math
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from support.claims import claim
from support.novels import VOCABULARY, Windows, write_windows
from support.trainers import CPU_DTYPE, Spec, heldout_nats
from torch import Tensor

from pipelines.models.build import build
from pipelines.models.options import PLAIN, ModelOptions
from pipelines.models.sizes import SizeName
from pipelines.pretraining.curvature import drawn_targets
from pipelines.pretraining.loop import Loop
from pipelines.pretraining.losses import causal_cross_entropy
from pipelines.pretraining.optimizer import optimizer_tensors
from pipelines.pretraining.settings import LoopConfig
from pipelines.recipes import THRIFTY

SHORT = bool(os.environ.get("OPTIMIZERS_SHORT"))
SMALL: SizeName = "tiny" if SHORT else "mini"
LARGE: SizeName = "tiny" if SHORT else "compact"
STEPS = 6 if SHORT else 80
SEEDS = (0,) if SHORT else (0, 1, 2)
LENGTH = 512
BATCH = 8
PARTS = ("sweep", "recipe")
LAST = 8
"""Steps at the end whose mean training loss chooses a learning rate."""
T_OF_THREE = 4.303
"""Student's t at 97.5% with two degrees of freedom, for the interval of a mean of three seeds."""

PLAIN_ADAMW: dict[str, Any] = {"optimizer": "adamw", "schedule": "cosine", "warmup_steps": 10}
SWEEPS: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "adamw": (PLAIN_ADAMW, (1e-3, 3e-3, 6e-3)),
    "lion": ({**PLAIN_ADAMW, "optimizer": "lion", "beta2": 0.98, "beta1": 0.95}, (2e-4, 5e-4, 1e-3)),
    "muon": ({**PLAIN_ADAMW, "optimizer": "muon"}, (3e-3, 1e-2, 2e-2)),
    "sophia": ({**PLAIN_ADAMW, "optimizer": "sophia", "beta1": 0.965, "beta2": 0.99}, (3e-4, 1e-3, 3e-3)),
    "adamw8bit": ({**PLAIN_ADAMW, "optimizer": "adamw8bit"}, (1e-3, 3e-3, 6e-3)),
}


class Recorded:
    """The objective over the recorded windows."""

    stage = "benchmark"
    fingerprint: Any = "benchmark"

    def __init__(self, windows: Windows) -> None:
        self.ids = np.load(windows.train, mmap_mode="r")

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the batch of a step, the same for every run."""
        rows = np.arange(step * BATCH, (step + 1) * BATCH) % len(self.ids)
        ids = torch.from_numpy(self.ids[rows].astype(np.int64))
        return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def loss(self, model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss."""
        return causal_cross_entropy(model, inputs, targets)

    def drawn(self, model: Any, inputs: Tensor, targets: Tensor, uniform: Tensor) -> Tensor:
        """Return targets drawn from the model."""
        return drawn_targets(model, inputs, targets, uniform)

    def measure(self, _model: Any) -> dict[str, float]:
        """Measure nothing while it trains."""
        return {}


@dataclass(frozen=True)
class Run:
    """What came of one run."""

    bits_per_byte: float
    last_loss: float
    tokens_per_cpu_second: float
    state_bytes: int


def train(windows: Windows, size: SizeName, settings: dict[str, Any], seed: int, options: ModelOptions = PLAIN) -> Run:
    """Train a model of this size and return what came of it."""
    quiet = {"heldout_every": STEPS + 1, "checkpoint_every": STEPS + 1, "log_interval": STEPS + 1, "trackers": ()}
    shape = {"sequence_length": LENGTH, "global_batch": BATCH, "micro_batch": 4, "max_steps": STEPS}
    machine = {"attention": "blockwise", "compile": "never", "measure_peak": False, "dtype": CPU_DTYPE}
    config = LoopConfig.model_validate({**shape, **machine, **quiet, **settings, "seed": seed})
    torch.manual_seed(seed)
    model = build(size, VOCABULARY, LENGTH, attention="blockwise", options=options)
    with tempfile.TemporaryDirectory() as out:
        loop = Loop(model, Recorded(windows), config, Path(out))
        start = time.process_time()
        loop.run()
        seconds = time.process_time() - start
    spec = Spec("ours", False, size, VOCABULARY, LENGTH, BATCH, 4, 0, 0, "fp32", "cpu", "", 0, str(windows.heldout))
    nats = heldout_nats(spec, model)
    if nats is None:
        sys.exit("the held-out windows are gone")
    losses = [row["loss"] for row in loop.position.curve]
    return Run(
        nats / math.log(2) / windows.heldout_bytes,
        statistics.mean(losses[-LAST:]),
        STEPS * BATCH * LENGTH / seconds,
        sum(tensor.nbytes for tensor in optimizer_tensors(model, loop.optimizers).values()),
    )


def swept(
    windows: Windows, name: str, size: SizeName, settings: dict[str, Any], rates: tuple[float, ...]
) -> tuple[float, list[Run]]:
    """Return the rate with the lowest last training losses, and its run with each seed."""
    tried = {}
    for lr in rates:
        tried[lr] = train(windows, size, {**settings, "lr": lr}, SEEDS[0])
        print(f"{name}, {size}, lr {lr:g}: {told(tried[lr])}", flush=True)
    best = min(rates, key=lambda lr: tried[lr].last_loss)
    return best, [tried[best], *(train(windows, size, {**settings, "lr": best}, seed) for seed in SEEDS[1:])]


def told(run: Run) -> str:
    """Return a run as a line."""
    return f"{run.bits_per_byte:.4f} bits per byte held out, last training losses {run.last_loss:.4f}"


def mean_of(runs: list[Run]) -> tuple[float, float]:
    """Return the mean bits per byte and half the width of its 95% interval."""
    found = [run.bits_per_byte for run in runs]
    half = T_OF_THREE * statistics.stdev(found) / math.sqrt(len(found)) if len(found) > 1 else math.nan
    return statistics.mean(found), half


def compare(windows: Windows) -> None:
    """Print a line an optimizer."""
    for name, (settings, rates) in SWEEPS.items():
        best, runs = swept(windows, name, SMALL, settings, rates)
        mean, half = mean_of(runs)
        rate = statistics.median(run.tokens_per_cpu_second for run in runs)
        print(
            f"{name}: lr {best:g}, {mean:.4f} ± {half:.4f} bits per byte, {rate:,.0f} tokens a CPU second, "
            f"optimizer state {runs[0].state_bytes / 2**20:,.1f} MiB",
            flush=True,
        )


def judge(windows: Windows) -> list[dict[str, Any]]:
    """Return the claims on the recipe against a plain AdamW-Llama."""
    recipe = dict(THRIFTY)
    options = ModelOptions.model_validate(recipe.pop("options"))
    best, plain = swept(windows, "AdamW-Llama", LARGE, PLAIN_ADAMW, (1e-3, 2e-3, 4e-3))
    ours = [train(windows, LARGE, recipe, seed, options) for seed in SEEDS]
    for seed, (one, other) in enumerate(zip(ours, plain, strict=True)):
        print(f"seed {seed}: recipe {told(one)}; AdamW-Llama {told(other)}")
    own, peer = mean_of(ours)[0], mean_of(plain)[0]
    ratios = [one.bits_per_byte / other.bits_per_byte for one, other in zip(ours, plain, strict=True)]
    print(f"{STEPS * BATCH * LENGTH:,} tokens a run; AdamW's lr {best:g}; by seed {[round(one, 4) for one in ratios]}")
    what = "held-out bits per byte, the recipe's as a share of AdamW-Llama's"
    return [
        claim(f"{what}, mean of three seeds", own / peer, 0.93),
        claim("the same, worst seed", max(ratios), 0.93),
    ]


def main(parts: list[str]) -> int:
    """Train, print the claims, and return 0 when all hold."""
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"optimizers.py: {min(unknown)!r} is no part; give {' or '.join(PARTS)}, or none for both")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    print(f"{torch.get_num_threads()} threads, {CPU_DTYPE}", flush=True)
    claims = []
    with tempfile.TemporaryDirectory() as folder:
        windows = write_windows(Path(folder), LENGTH)
        if "sweep" in parts:
            compare(windows)
        if "recipe" in parts:
            claims = judge(windows)
    print(json.dumps({"name": "optimizers", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(PARTS)))
