"""How much a save holds training up: written beside it, written before it goes on, and never, in turns.

A turn is a few steps of a 20 M Llama, with one save after the first of them. What the turn takes longer than one
without a save is set against 50 steps, as a run saves every 50. Half of the bytes are AdamW's. Two idle cores; minutes.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import torch
from support.claims import claim
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from pipelines.pretraining.loop import Batch, Loop
from pipelines.pretraining.losses import causal_cross_entropy
from pipelines.pretraining.settings import LoopConfig

TURNS = int(os.environ.get("CHECKPOINT_TURNS", "7"))
STEPS, EVERY = 6, 50
VOCABULARY, LENGTH = 8192, 512
ROWS = int(os.environ.get("CHECKPOINT_ROWS", "4"))
MODES = ("none", "beside", "before")


class Noise:
    """Random ids of the step."""

    stage = "benchmark"
    fingerprint: ClassVar = {"config": {}, "inputs": {}, "code": ""}

    def batch(self, step: int) -> Batch:
        """Return inputs and targets."""
        ids = torch.randint(6, VOCABULARY, (ROWS, LENGTH + 1), generator=torch.Generator().manual_seed(step))
        return ids[:, :-1], ids[:, 1:]

    def loss(self, model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed cross-entropy."""
        return causal_cross_entropy(model, inputs, targets)

    def measure(self, model: Any) -> dict[str, float]:
        """Return nothing."""
        return {}


def build() -> LlamaForCausalLM:
    """Return 20 M parameters: 8 blocks of width 384."""
    sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 6}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, tie_word_embeddings=True, **sizes))


def turn(loop: Loop, mode: str, first: int) -> tuple[float, float]:
    """Return the seconds of the steps of a turn, and those that the call of the save took."""
    began, stall = time.perf_counter(), 0.0
    for number in range(STEPS):
        inputs, targets = loop.objective.batch(first + number)
        loop.step.gradients(inputs, targets, lambda: False)
        loop.step.apply(1e-4)
        if number == 0 and mode != "none":
            at = time.perf_counter()
            loop.checkpoints.save(first, loop.snapshot())
            if mode == "before":
                loop.checkpoints.settle(now=True)
            stall = time.perf_counter() - at
        loop.checkpoints.settle()
    seconds = time.perf_counter() - began
    loop.checkpoints.settle(now=True)  # what is left of a write does not reach into the next turn
    return seconds, stall


def main(folder: Path) -> int:
    """Measure, print the claims, and return 0 when all hold."""
    config = LoopConfig(sequence_length=LENGTH, global_batch=ROWS, micro_batch=ROWS, max_steps=10**6, warmup_steps=0)
    loop = Loop(build(), Noise(), config, folder)
    parameters = sum(weight.numel() for weight in loop.model.parameters())
    print(f"{parameters / 1e6:.1f} M parameters, torch {torch.__version__}, {torch.get_num_threads()} threads")
    turn(loop, "beside", 1)  # the buffers are made and the kernels are warm
    taken: dict[str, list[float]] = {mode: [] for mode in MODES}
    stalls: dict[str, list[float]] = {mode: [] for mode in MODES}
    for number in range(1, TURNS + 1):
        for place, mode in enumerate(MODES if number % 2 else reversed(MODES)):
            seconds, stall = turn(loop, mode, (3 * number + place) * STEPS)
            taken[mode].append(seconds)
            stalls[mode].append(stall)
            print(f"{mode}: {seconds:.2f} s, save {stall:.3f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    step = statistics.median(taken["none"]) / STEPS
    lost = {
        mode: statistics.median(one - none for one, none in zip(taken[mode], taken["none"], strict=True))
        for mode in MODES
    }
    call = {mode: statistics.median(stalls[mode]) for mode in MODES}
    share = {mode: lost[mode] / (EVERY * step) for mode in MODES}
    claims = [
        claim("share of the time that a save every 50 steps costs", share["beside"], 0.02, peer=share["before"]),
        claim(
            "share of the time that the loop stands still for it",
            call["beside"] / (EVERY * step), 0.02, peer=call["before"] / (EVERY * step),
        ),
    ]  # fmt: skip
    print(f"a step takes {step:.3f} s, a save written before the loop goes on {call['before']:.3f} s")
    print(json.dumps({"name": "checkpoint", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(Path(made)))
