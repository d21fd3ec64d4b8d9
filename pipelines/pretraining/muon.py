"""Muon: momentum whose matrix is made orthogonal before it is taken as a step (Jordan et al., 2024).

torch has a Muon too; it computes in bfloat16, which a CPU without such instructions does fifteen times slower than
in single precision. This one keeps the precision of the weights.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from pipelines.pretraining.sharding import placed, whole

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration: they raise small singular values fastest and let all end between 0.7 and 1.2."""

ITERATIONS = 5
RMS_OF_ADAMW = 0.2
"""Size of AdamW's updates, to which Muon's are scaled so that both share a learning rate (Liu et al., 2025)."""


class Muon(Optimizer):
    """Steps for matrices; with Nesterov momentum and decoupled weight decay."""

    def __init__(self, matrices: Iterable[Tensor], *, lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Change each weight that has a gradient; there is no line search, so no closure is called."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(gradient, 1 - group["momentum"])
        direction = placed(orthogonal(whole(gradient.lerp(momentum, group["momentum"]))), weight)
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(direction, alpha=-group["lr"] * RMS_OF_ADAMW * math.sqrt(max(weight.shape[-2:])))


def orthogonal(matrix: Tensor) -> Tensor:
    """Return the matrix, or each of a stack, with its singular values brought near one, by Newton-Schulz iterations."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[-2] > matrix.shape[-1]
    wide = matrix.mT if tall else matrix
    wide = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.mT if tall else wide
