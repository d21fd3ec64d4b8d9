"""The arithmetic of a step: the type of its matrix products, and the scale that keeps fp16 gradients in range."""

from dataclasses import dataclass
from typing import Any

import torch

from pipelines.pretraining.float8 import use_float8
from pipelines.pretraining.settings import LoopConfig

PRODUCTS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}
"""Type of the products that a block makes smaller than fp32; what fp8 does not cover is bf16."""

HIGHEST, LOWEST, GROWTH_INTERVAL = 2.0**24, 1.0, 2000
"""Bounds of the loss scale, and the clean steps after which it is doubled, as in torch.amp.GradScaler."""


def arithmetic(config: LoopConfig) -> torch.autocast:
    """Return the block in which matrix products have the configured type."""
    dtype = PRODUCTS.get(config.dtype)
    return torch.autocast(config.device, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def prepare(model: Any, config: LoopConfig) -> None:
    """Let the model compute in fp8, leave attention weights out, and forget activations in blocks, where asked."""
    if config.attention_dropout:
        for module in [model, *model.modules()]:
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = config.attention_dropout
    if config.dtype == "fp8":
        use_float8(model)
    if config.activation_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})


@dataclass
class LossScale:
    """The factor of the loss that keeps small fp16 gradients from vanishing (Micikevicius et al., 2018).

    An overflow halves it and the same batch is computed again, so no sample is lost to it; all factors are powers of
    two, so taking the factor back out of the gradients is exact.
    """

    used: bool
    factor: float = 1.0
    clean: int = 0
    """Steps since the last change."""

    @classmethod
    def for_dtype(cls, dtype: str) -> "LossScale":
        """Return the scale to begin with: one that stays at 1 unless products are fp16."""
        return cls(used=True, factor=2.0**16) if dtype == "fp16" else cls(used=False)

    def shrink(self) -> bool:
        """Halve the factor and return whether that was possible."""
        if self.factor <= LOWEST:
            return False
        self.factor, self.clean = self.factor / 2, 0
        return True

    def count_clean(self) -> None:
        """Count a step without overflow, and double the factor after many."""
        self.clean += self.used
        if self.clean >= GROWTH_INTERVAL:
            self.factor, self.clean = min(2 * self.factor, HIGHEST), 0
