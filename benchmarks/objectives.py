"""One trunk, causal, masked and as a mixture of experts, at equal operations: loss, BLiMP, tokens a second, memory.

Each model is trained by the stage `pretrain` and scored by the stage `evaluate`, in a process of its own, on the same
novels. The losses are of each objective's own targets: those of causal and mixture compare, the masked one's stands by
itself, and BLiMP is what all three share. OBJECTIVES_FLOPS, OBJECTIVES_SIZE and OBJECTIVES_ITEMS (of each BLiMP
paradigm) make the run longer; the defaults take some minutes on two cores. The last line is one JSON object.
"""

import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from support.claims import claim
from support.near_duplicates import write
from support.novels import novels

from pipelines.evaluation.evaluate import EvaluateConfig, evaluate
from pipelines.models.counting import count_parameters, flops_per_token
from pipelines.pretraining.pretrain import PretrainConfig, pretrain
from pipelines.tokens.loader import TokenShards
from pipelines.tokens.shard import ShardConfig, shard
from pipelines.tokens.tokenizer import TokenizerConfig, tokenizer
from tests.evaluation.mirror import build_mirror

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
ARCHITECTURES = {"causal": "llama", "masked": "modernbert", "mixture": "mixtral"}
VOCABULARY = 4096
LENGTH = 128
BATCH = 16
MASK_SHARE = 0.3
SIZE: Any = os.environ.get("OBJECTIVES_SIZE", "mini")
FLOPS = float(os.environ.get("OBJECTIVES_FLOPS", "2e12"))
ITEMS = int(os.environ.get("OBJECTIVES_ITEMS", "2"))
SCORED_TOKENS = 500
CHARACTERS = 2_000
"""Length of a document: a masked model takes a forward pass a token to score one."""


def cost(name: str) -> int:
    """Return the operations of a token that is read."""
    predicted = MASK_SHARE if name == "masked" else 1.0
    return flops_per_token(SIZE, VOCABULARY, LENGTH, architecture=ARCHITECTURES[name], predicted=predicted)


def steps(name: str) -> int:
    """Return how many steps the operations allow."""
    return max(2, round(FLOPS / (cost(name) * BATCH * LENGTH)))


def peak_memory() -> int:
    """Return the most memory, in bytes, that this process held; rusage tells that of its parent where it is more."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024  # type: ignore[union-attr]


def train(name: str, folder: Path) -> None:
    """Train and score one model, and write what came of it."""
    config = PretrainConfig(
        architecture=ARCHITECTURES[name],
        size=SIZE,
        mask_share=MASK_SHARE,
        sequence_length=LENGTH,
        global_batch=BATCH,
        micro_batch=BATCH,
        max_steps=steps(name),
        warmup_steps=max(1, steps(name) // 20),
        lr=2e-3,
        compile="never",
        log_interval=1,
        heldout_every=10**6,
        checkpoint_every=10**6,
        trackers=(),
    )
    shards, out = folder / "shards", folder / name
    inputs = {"train": shards / "train", "heldout": shards / "heldout", "tokenizer": shards / "tokenizer"}
    found = pretrain(config, **inputs, out=out)
    memory = peak_memory()
    rows = [json.loads(line) for line in (out / "log" / "metrics.jsonl").read_text().splitlines()]
    scoring = EvaluateConfig(
        heldout_tokens=SCORED_TOKENS,
        baseline_bytes=0,
        questions=0,
        bias_templates=0,
        toxicity_prompts=0,
        samples=0,
        tasks=("blimp",),
        task_limit=ITEMS,
        mirror=folder / "mirror",
        incomplete_groups=True,
    )
    scores = evaluate(scoring, model=out / "model", heldout=shards / "heldout", out=folder / f"{name}-scores")
    row = {
        "loss": found["heldout_loss"],
        "blimp": scores["blimp.acc"],
        "tokens_per_second": statistics.median(row["tokens_per_second"] for row in rows[1:]),
        "memory": memory,
        "flops": found["tokens"] * cost(name),
        "tokens": found["tokens"],
    }
    (folder / f"{name}.json").write_text(json.dumps(row))


def prepare(folder: Path) -> float:
    """Write shards and the benchmark's mirror; return the loss, in nats, of telling ids by their frequencies alone."""
    texts = [text[at : at + CHARACTERS] for part in novels() for text in part for at in range(0, len(text), CHARACTERS)]
    write(texts, folder / "documents")
    tokenizer(TokenizerConfig(vocab_size=VOCABULARY), documents=folder / "documents", out=folder / "out")
    found = next((folder / "out").rglob("tokenizer.json")).parent
    shard(ShardConfig(), documents=folder / "documents", tokenizer=found, out=folder / "shards")
    build_mirror(SHARED / "benchmarks", folder / "mirror")
    seen, held = (TokenShards(folder / "shards" / split) for split in ("train", "heldout"))
    counts = 1.0 + np.bincount(seen.window(0, len(seen)), minlength=VOCABULARY)
    return float(-np.log(counts / counts.sum())[held.window(0, len(held))].mean())


def main() -> int:
    """Train the three, print the table and the claims, and return 0 when all hold."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        frequencies = prepare(folder)
        print(f"size {SIZE}, {FLOPS:.1e} operations each, ids by frequency {frequencies:.3f} nats", flush=True)
        for name in ARCHITECTURES:
            subprocess.run([sys.executable, __file__, name, str(folder)], check=True)
        rows = {name: json.loads((folder / f"{name}.json").read_text()) for name in ARCHITECTURES}
    columns = ("objective", "architecture", "parameters", "tokens", "loss", "BLiMP", "tokens/s", "memory")
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for name, row in rows.items():
        weights = count_parameters(SIZE, VOCABULARY, architecture=ARCHITECTURES[name], max_length=LENGTH)
        print(
            f"| {name} | {ARCHITECTURES[name]} | {weights:,} | {row['tokens']:,.0f} | {row['loss']:.3f} | "
            f"{row['blimp']:.3f} | {row['tokens_per_second']:,.0f} | {row['memory'] / 2**20:,.0f} MiB |"
        )
    spent = [row["flops"] for row in rows.values()]
    claims = [claim("operations, most over least", max(spent) / min(spent), 1.02)]
    claims += [
        claim(f"held-out loss, {name}, under ids by frequency", row["loss"], frequencies) for name, row in rows.items()
    ]
    print(json.dumps({"name": "objectives", "claims": claims}))
    return 0 if all(item["ok"] and math.isfinite(item["ours"]) for item in claims) else 1


if __name__ == "__main__":
    if len(sys.argv) == 3:
        train(sys.argv[1], Path(sys.argv[2]))
    else:
        sys.exit(main())
