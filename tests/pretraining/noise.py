"""A tiny model on random ids, some of whose steps go wrong on purpose."""

import math
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from pipelines.pretraining.loop import Batch, Loop
from pipelines.pretraining.losses import causal_cross_entropy
from pipelines.pretraining.settings import LoopConfig

CONFIG = LoopConfig(
    max_steps=6,
    global_batch=2,
    warmup_steps=1,
    sequence_length=16,
    micro_batch=1,
    checkpoint_every=2,
    heldout_every=1000,
    trackers=(),
)
VOCABULARY = 64


class Noise:
    """Random ids; the loss of a batch may be multiplied, and one may be interrupted."""

    stage = "noise"
    fingerprint: ClassVar = {"config": {}, "inputs": {}, "code": "one"}

    def __init__(
        self,
        factors: Mapping[int, float] | None = None,
        stopped: int | None = None,
        heldout: Iterable[float] = (),
    ) -> None:
        self.factors, self.stopped, self.heldout = dict(factors or {}), stopped, list(heldout)
        self.read: list[int] = []
        self.measured = 0

    def batch(self, step: int) -> Batch:
        self.read.append(step)
        if step == self.stopped:
            signal.raise_signal(signal.SIGTERM)
        ids = torch.randint(6, VOCABULARY, (2, 17), generator=torch.Generator().manual_seed(step))
        return ids[:, :-1], ids[:, 1:]

    def next_sample(self, step: int) -> int:
        return 2 * step

    def document_ids(self, step: int) -> list[str]:
        return [f"document-{step}"]

    def loss(self, model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        return causal_cross_entropy(model, inputs, targets) * self.factors.get(self.read[-1], 1.0)

    def measure(self, model: Any) -> dict[str, float]:
        self.measured += 1
        return {"heldout_loss": self.heldout[self.measured - 1]} if self.heldout else {}


def broken(*batches: int) -> dict[int, float]:
    """Factors that make the loss of these batches no number."""
    return dict.fromkeys(batches, math.nan)


def tiny() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        tie_word_embeddings=True,
        dtype="float32",
    )
    config._attn_implementation = "sdpa"
    return LlamaForCausalLM(config)


def loop(objective: Any, out: Path, **changes: Any) -> Loop:
    torch.manual_seed(0)
    return Loop(tiny(), objective, LoopConfig(**{**CONFIG.model_dump(), **changes}), out)


def trained(objective: Any, out: Path, **changes: Any) -> Loop:
    made = loop(objective, out, **changes)
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # a stopped run passes the signal on
    try:
        made.run()
    finally:
        signal.signal(signal.SIGTERM, before)
    return made


def weights(trained: Loop) -> list[Tensor]:
    return [weight.detach().clone() for weight in trained.model.parameters()]


def equal(one: Loop, other: Loop) -> bool:
    return all(torch.equal(left, right) for left, right in zip(weights(one), weights(other), strict=True))
