"""Sophia-G: a gradient's mean divided by an estimate of the curvature, and clipped (Liu et al., 2023).

No maintained library has it with the estimate of Gauss, Newton and Bartlett, which needs labels drawn from the model.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

TINY = 1e-12
"""The least curvature, so that a weight that has none takes a clipped step and no division by nothing."""


class Sophia(Optimizer):
    """Steps `lr * clip(m / max(gamma * h, TINY), 1)` with decoupled weight decay: algorithm 3 of the paper."""

    def __init__(
        self, params: Iterable[Any], *, lr: float = 1e-3, betas: tuple[float, float] = (0.965, 0.99), gamma: float
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "gamma": gamma, "weight_decay": 0.0})

    @torch.no_grad()
    def update_curvature(self, count: Tensor | float) -> None:
        """Draw `count * gradient ** 2` into the curvature's mean.

        The gradients must be those of the mean loss over `count` labels drawn from the model's own distribution.
        """
        for group in self.param_groups:
            decay = group["betas"][1]
            for weight in group["params"]:
                if weight.grad is not None:
                    self._state(weight)["curvature"].lerp_(weight.grad.square() * count, 1 - decay)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Change each weight that has a gradient; there is no line search, so no closure is called."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self._state(weight)
                mean = state["mean"].lerp_(weight.grad, 1 - group["betas"][0])
                direction = mean / (group["gamma"] * state["curvature"]).clamp_(min=TINY)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(direction.clamp_(-1, 1), alpha=-group["lr"])

    def _state(self, weight: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[weight]
        if not state:
            state |= {"mean": torch.zeros_like(weight), "curvature": torch.zeros_like(weight)}
        return state
