"""Pre-training a 20 M Llama on all cores: ours against HF Trainer and against a compiled transformers model with SDPA.

The same first weights, text, batches and settings for all; bf16 where the CPU has its products, else fp32 for all.
Engines are processes that take turns. Then attention alone, forward and backward, at other lengths and head widths.
Usage: `pretrain_cpu.py [--short]`. The last line is one JSON object.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from support.claims import claim
from support.novels import VOCABULARY, write_windows
from support.races import Runner, furthest_apart, race, table
from support.trainers import CPU_DTYPE, Spec
from torch.nn import functional as F

from pipelines.models.attention import blockwise_attention
from pipelines.models.counting import flops_per_token
from pipelines.pretraining.peak import matmul_peak

LENGTH = 512
BATCH = 8
MICRO_BATCH = 4
OWN = ("ours", "ours eager")
SHAPES = [(8, 6, 6, 512, 64), (8, 12, 12, 512, 32), (8, 3, 3, 512, 128), (8, 6, 2, 512, 64)] + [
    (2, heads, heads, 2048, 384 // heads) for heads in (6, 12, 3)
]
"""Batch, heads, key heads, length and head width of attention alone."""


def attentions(dtype: torch.dtype, runs: int) -> list[tuple[str, float]]:
    """Print milliseconds of both attentions, forward and backward, and return our speed as a multiple of SDPA's."""
    found = []
    for batch, heads, key_heads, length, width in SHAPES:
        torch.manual_seed(0)
        inputs = [
            torch.randn(batch, length, count, width, dtype=dtype).transpose(1, 2).requires_grad_()
            for count in (heads, key_heads, key_heads)
        ]
        grad = torch.randn(batch, length, heads, width, dtype=dtype)

        def ours(query: Any, key: Any, value: Any, scale: float = width**-0.5) -> torch.Tensor:
            return blockwise_attention(torch.nn.Module(), query, key, value, None, scale)[0]

        def sdpa(query: Any, key: Any, value: Any) -> torch.Tensor:
            out = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
            return out.transpose(1, 2)

        seconds: dict[Any, list[float]] = {ours: [], sdpa: []}
        for _ in range(runs + 1):
            for attention, taken in seconds.items():
                start = time.perf_counter()
                torch.autograd.grad(attention(*inputs), inputs, grad)
                taken.append(time.perf_counter() - start)
        own, other = (statistics.median(taken[1:]) for taken in seconds.values())
        name = f"length {length}, {heads} heads of {width}" + (f", {key_heads} of keys" * (heads != key_heads))
        kept = sum(heads.nbytes for heads in inputs)
        print(f"attention, {name}: {own * 1e3:.1f} ms, SDPA {other * 1e3:.1f} ms; ours keeps {kept / 2**20:.1f} MiB")
        found.append((name, other / own))
    return found


def specs(data: Path, dtype: str, turns: int, steps: int) -> dict[str, Spec]:
    """Return the engines, peers eager and compiled: the better one counts."""

    def spec(engine: str, compiled: bool) -> Spec:
        shape = ("compact", VOCABULARY, LENGTH, BATCH, MICRO_BATCH)
        return Spec(engine, compiled, *shape, steps, turns, dtype, "cpu", str(data))

    engines = {"ours": ("ours", True), "ours eager": ("ours", False), "transformers compiled": ("plain", True)}
    engines |= {"trainer compiled": ("trainer", True), "trainer eager": ("trainer", False)}
    return {name: spec(*engine) for name, engine in engines.items()}


def main(*, short: bool) -> int:
    """Measure, print the claims, and return 0 when all hold."""
    bf16 = CPU_DTYPE == "bf16"
    dtype = torch.bfloat16 if bf16 else torch.float32
    threads = int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0))))
    torch.set_num_threads(threads)
    versions = {name: metadata.version(name) for name in ("torch", "transformers", "accelerate")}
    print(f"{threads} threads, {dtype} for all" + ("" if bf16 else ", as this CPU has no bf16 products"), versions)
    with tempfile.TemporaryDirectory() as folder:
        data = write_windows(Path(folder), LENGTH).train
        peak = matmul_peak("cpu", dtype)
        runners = race(specs(data, CPU_DTYPE, *((2, 1) if short else (5, 3))), threads)
    peak = max(peak, matmul_peak("cpu", dtype))
    flops = flops_per_token("compact", VOCABULARY, LENGTH)
    print(f"peak {peak / 1e9:,.0f} GFLOP/s, {flops / 1e6:,.1f} MFLOP a token, {BATCH * LENGTH:,} tokens a step")
    table(runners, flops, peak)
    speedups = attentions(dtype, 2 if short else 7)
    claims = judge(runners, flops / peak)
    claims += [claim(f"attention against SDPA, {name}", ratio, 1.0, at_most=False) for name, ratio in speedups]
    print(json.dumps({"name": "pretrain_cpu", "dtype": str(dtype), "claims": claims}))
    return 0 if all(item["ok"] for item in claims) and len(runners) == len(specs(data, "fp32", 1, 1)) else 1


def judge(runners: list[Runner], seconds_a_token_at_peak: float) -> list[dict[str, Any]]:
    """Return the claims: our rates as multiples of the peers' best, MFU, and how far losses lie apart.

    The rate by CPU time has no target: it tells, on a machine that has other work, what the rate by wall time can not.
    """
    rates = {runner.name: (runner.tokens_per_second, runner.tokens_per_cpu_second) for runner in runners}
    own, own_thrift = (max(column) for column in zip(*(rates[name] for name in OWN if name in rates), strict=True))
    claims = []
    for peer, target in (("trainer", 1.6), ("transformers", 1.25)):
        found = [rate for name, rate in rates.items() if name.startswith(peer)]
        if found:
            best, best_thrift = (max(column) for column in zip(*found, strict=True))
            claims.append(claim(f"tokens/s, times {peer}'s best", own / best, target, at_most=False))
            ratio = own_thrift / best_thrift
            claims.append(claim(f"tokens a CPU second, times {peer}'s best", ratio, 0, at_most=False))
    claims.append(claim("MFU of the measured peak", own * seconds_a_token_at_peak, 0.52, at_most=False))
    claims.append(claim("losses of one step, furthest apart", furthest_apart(runners), 0.02))
    return claims


if __name__ == "__main__":
    sys.exit(main(short="--short" in sys.argv[1:]))
