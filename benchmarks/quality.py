"""What a model has learnt after the same tokens: our loop against HF Trainer, held-out bits per byte over three seeds.

The 20 M Llama of `pretrain_cpu`, the same first weights, batches, optimizer and schedule for both, bf16 where the CPU
has its products, else fp32; a run takes about five minutes, on one core in bf16 and on two in fp32. Both models are
measured by transformers' own forward pass on text that neither saw. The last line is one JSON object.
"""

import json
import math
import os
import statistics
import sys
import tempfile
from pathlib import Path

from support.claims import claim
from support.novels import VOCABULARY, Windows, write_windows
from support.races import race
from support.trainers import CPU_DTYPE, Spec

LENGTH = 512
BATCH = 8
MICRO_BATCH = 4
TURNS = 4
STEPS_A_TURN = int(os.environ.get("QUALITY_STEPS", "64")) // TURNS
SEEDS = (0, 1, 2)
WITHIN = 1.005
"""Our bits per byte as a share of HF Trainer's, at most."""


def bits_per_byte(windows: Windows, seed: int, threads: int) -> dict[str, float]:
    """Return the held-out bits per byte of both after one run each."""

    def spec(engine: str) -> Spec:
        shape = ("compact", VOCABULARY, LENGTH, BATCH, MICRO_BATCH, STEPS_A_TURN, TURNS)
        return Spec(engine, False, *shape, CPU_DTYPE, "cpu", str(windows.train), seed, str(windows.heldout))

    found = {}
    for runner in race({"ours": spec("ours"), "trainer": spec("trainer")}, threads):
        if runner.heldout_nats is None:
            sys.exit(f"{runner.name}: told no held-out loss")
        found[runner.name] = runner.heldout_nats / math.log(2) / windows.heldout_bytes
        print(
            f"seed {seed}, {runner.name}: {found[runner.name]:.4f} bits per byte, last loss {runner.losses[-1]:.4f}, "
            f"{sum(runner.seconds):.0f} s of training",
            flush=True,
        )
    return found


def main() -> int:
    """Train, print the claims, and return 0 when all hold."""
    threads = int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0))))
    with tempfile.TemporaryDirectory() as folder:
        windows = write_windows(Path(folder), LENGTH)
        found = [bits_per_byte(windows, seed, threads) for seed in SEEDS]
    own, peer = (statistics.mean(row[name] for row in found) for name in ("ours", "trainer"))
    tokens = TURNS * STEPS_A_TURN * BATCH * LENGTH
    print(f"{tokens:,} tokens a run; by seed {[round(row['ours'] / row['trainer'], 5) for row in found]}")
    claims = [
        claim("held-out bits per byte at equal tokens, mean of three seeds", own, peer * WITHIN, peer=peer),
        claim("the same, worst seed, ours over HF Trainer's", max(row["ours"] / row["trainer"] for row in found), 1.01),
    ]
    print(json.dumps({"name": "quality", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
