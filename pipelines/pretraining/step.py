"""One optimizer step: the gradients of a batch, their length, and new weights where all of it is finite."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipelines.artifacts.curve import Row
from pipelines.pretraining.losses import IGNORED
from pipelines.pretraining.optimizer import clip_gradients, set_lr
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.spreading import SpreadLoss
from pipelines.pretraining.world import World


class TrainingStep:
    """Takes steps with one model and its optimizers."""

    def __init__(
        self, model: nn.Module, optimizers: list[Optimizer], loss: SpreadLoss, config: LoopConfig, world: World
    ) -> None:
        self.model, self.optimizers, self.loss, self.config, self.world = model, optimizers, loss, config, world

    def take(self, inputs: Tensor, targets: Tensor, lr: float, stopping: Callable[[], bool]) -> Row | None:
        """Change the weights and return loss, learning rate and gradient length; None when `stopping` in its midst.

        Where loss or gradient is not finite the weights stay as they were, and the row says so by what it holds.
        """
        loss = self._gradients(inputs, targets, stopping)
        if loss is None:
            self.forget_gradients()
            return None
        norm = clip_gradients(self.model, self.config.clip)
        if math.isfinite(loss) and math.isfinite(norm):
            set_lr(self.optimizers, lr)
            for optimizer in self.optimizers:
                optimizer.step()
        self.forget_gradients()
        return {"loss": loss, "lr": lr, "grad_norm": norm}

    def arithmetic(self) -> torch.autocast:
        """Return the block in which matrix products have the configured type."""
        return torch.autocast(self.config.device, dtype=torch.bfloat16, enabled=self.config.dtype == "bf16")

    def forget_gradients(self) -> None:
        """Give the gradients' memory back."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def _gradients(self, inputs: Tensor, targets: Tensor, stopping: Callable[[], bool]) -> float | None:
        """Add up the gradients of the mean loss over the batch and return that loss, or None when asked to stop."""
        config = self.config
        count = self.world.total((targets != IGNORED).sum()).clamp(min=1).to(config.device)
        total = torch.zeros((), device=config.device)
        for start in range(0, len(inputs), config.micro_batch):
            rows = slice(start, start + config.micro_batch)
            if stopping():
                return None
            with self.arithmetic(), self.loss.part(last=rows.stop >= len(inputs)):
                part = self.loss(self.model, inputs[rows].to(config.device), targets[rows].to(config.device)) / count
            torch.autograd.backward(part)
            total += part.detach()
        return float(self.world.total(total))


def is_finite(row: Row) -> bool:
    """Return whether a step changed the weights."""
    return math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])
