"""Pre-training on one GPU: ours against HF Trainer and a plain compiled loop, 124 M and 1 B parameters, bf16 and fp8.

It needs torch, transformers, numpy, safetensors and pydantic, and accelerate for HF Trainer: where that is absent it
says so, and the plain loop is the peer. The text is the source of Python's standard library, a token a byte.
Usage: `pretrain_gpu.py [--shape 124m|1b|tiny] [--device cuda|cpu] [--fp8] [--steps N]`; without --shape, 124m and 1b.
The last line is one JSON object.
"""

import argparse
import json
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from support.claims import claim
from support.races import furthest_apart, race, table
from support.trainers import Spec

from pipelines.models.counting import flops_per_token
from pipelines.models.sizes import SizeName
from pipelines.pretraining.peak import matmul_peak
from pipelines.tokens.special import SPECIAL_TOKENS


class Shape(NamedTuple):
    """A row of the table of sizes, and how it is fed."""

    size: SizeName
    vocab_size: int
    sequence_length: int
    global_batch: int
    micro_batch: int


SHAPES = {
    "124m": Shape("small", 50_304, 1024, 64, 32),
    "1b": Shape("base", 50_304, 2048, 16, 4),
    "tiny": Shape("tiny", 512, 32, 4, 2),
}
FILES = 200
TURNS = 3


def write_windows(folder: Path, length: int) -> Path:
    """Write the bytes of the standard library's sources, after the special tokens' ids, in windows."""
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:FILES]
    ids = np.frombuffer(b"".join(path.read_bytes() for path in sources), np.uint8).astype(np.uint16)
    windows = np.lib.stride_tricks.sliding_window_view(ids + len(SPECIAL_TOKENS), length + 1)[::length]
    np.save(folder / "windows.npy", windows[np.random.default_rng(0).permutation(len(windows))])
    return folder / "windows.npy"


def measure(name: str, device: str, steps: int, *, fp8: bool) -> list[dict[str, Any]]:
    """Print the rates of a shape and return its claims."""
    shape = SHAPES[name]
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    peak = matmul_peak(device, dtype)
    compiled = device == "cuda"
    engines = {"ours": "ours", "plain": "plain"} | ({"trainer": "trainer"} if find_spec("accelerate") else {})
    if "trainer" not in engines:
        print("trainer: not measured, as accelerate is not installed; the plain loop is the peer")
    runners = []
    with tempfile.TemporaryDirectory() as folder:
        data = str(write_windows(Path(folder), shape.sequence_length))
        kinds = [(engine, engine, "bf16" if device == "cuda" else "fp32") for engine in engines]
        kinds += [("ours fp8", "ours", "fp8")] * fp8
        for label, engine, kind in kinds:  # one after another: two models of 1 B would share the memory
            spec = Spec(engine, compiled, *shape, steps, TURNS, kind, device, data)
            runners += race({label: spec}, threads=torch.get_num_threads())
    flops = flops_per_token(shape.size, shape.vocab_size, shape.sequence_length)
    table(runners, flops, peak)
    rates = {runner.name: runner.tokens_per_second for runner in runners}
    peer = "trainer" if "trainer" in rates else "plain"
    claims = [
        claim(f"{name}: tokens/s, times {peer}", rates["ours"] / rates[peer], 1.3, at_most=False),
        claim(f"{name}: MFU in {dtype}", rates["ours"] * flops / peak, 0.5 if name == "1b" else 0.0, at_most=False),
        claim(
            f"{name}: losses of one step, furthest apart",
            furthest_apart([runner for runner in runners if runner.name != "ours fp8"]),
            0.05,
        ),
    ]
    if "ours fp8" in rates:
        claims.append(claim(f"{name}: fp8, times bf16", rates["ours fp8"] / rates["ours"], 1.15, at_most=False))
    return claims


def main() -> int:
    """Measure, print the claims, and return 0 when all hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--fp8", action="store_true")
    parser.add_argument("--steps", type=int, default=10, help="optimizer steps in a turn")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("pretrain_gpu: this machine has no CUDA device; run it where there is one", file=sys.stderr)
        return 2
    names = [given.shape] if given.shape else ["124m", "1b"]
    claims = [item for name in names for item in measure(name, given.device, given.steps, fp8=given.fp8)]
    print(json.dumps({"name": "pretrain_gpu", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
