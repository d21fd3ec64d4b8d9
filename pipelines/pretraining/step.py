"""One optimizer step in two halves: the gradients of a batch and their length, then new weights from them."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipelines.artifacts.curve import Row
from pipelines.pretraining.losses import IGNORED
from pipelines.pretraining.optimizer import clip_gradients, set_lr
from pipelines.pretraining.precision import LossScale
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.spreading import SpreadLoss
from pipelines.pretraining.world import World


class TrainingStep:
    """Takes steps with one model and its optimizers."""

    def __init__(
        self, model: nn.Module, optimizers: list[Optimizer], loss: SpreadLoss, config: LoopConfig, world: World
    ) -> None:
        self.model, self.optimizers, self.loss, self.config, self.world = model, optimizers, loss, config, world
        self.scale = LossScale.for_dtype(config.dtype)

    def gradients(self, inputs: Tensor, targets: Tensor, stopping: Callable[[], bool]) -> Row | None:
        """Compute the batch's clipped gradients; return loss and gradient length, or None when `stopping` in between.

        Loss or length are not finite where the weights should stay as they are. An fp16 gradient that overflows is
        computed again at a lower scale.
        """
        before = replace(self.scale)
        while True:
            loss = self.summed(inputs, targets, stopping)
            if loss is None:
                self.scale = before
                self.forget_gradients()
                return None
            norm = clip_gradients(self.model, self.config.clip, scale=self.scale.factor, world=self.world)
            if math.isfinite(norm) or not math.isfinite(loss):
                break
            if not self.scale.shrink():
                self.scale = before  # no scale mends it: the gradient itself is at fault
                break
            self.forget_gradients()
        return {"loss": loss, "grad_norm": norm}

    def apply(self, lr: float) -> None:
        """Change the weights by the gradients at hand, and give their memory back."""
        set_lr(self.optimizers, lr)
        for optimizer in self.optimizers:
            optimizer.step()
        self.scale.count_clean()
        self.forget_gradients()

    def forget_gradients(self) -> None:
        """Give the gradients' memory back."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def summed(self, inputs: Tensor, targets: Tensor, stopping: Callable[[], bool]) -> float | None:
        """Add up the scaled gradients of the batch's mean loss and return that loss, or None when asked to stop."""
        config = self.config
        count = self.world.total_of_rows((targets != IGNORED).sum()).clamp(min=1).to(config.device)
        total = torch.zeros((), device=config.device)
        size = self.loss.rows_at_once
        for start in range(0, len(inputs), size):
            rows = slice(start, start + size)
            if stopping():
                return None
            part = inputs[rows].to(config.device), targets[rows].to(config.device)
            total += self.loss.backward(*part, count, self.scale.factor, last=rows.stop >= len(inputs))
        return float(self.world.total_of_rows(total))
