"""One optimizer step in two halves: the gradients of a batch and their length, then new weights from them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipelines.artifacts.curve import Row
from pipelines.pretraining.checkpoint import Tensors
from pipelines.pretraining.losses import IGNORED
from pipelines.pretraining.optimizer import clip_gradients, load_optimizer_tensors, optimizer_tensors, set_lr
from pipelines.pretraining.precision import LossScale
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.sharding import placed
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
            norm = self.clip()
            if math.isfinite(norm) or not math.isfinite(loss):
                break
            if not self.scale.shrink():
                self.scale = before  # no scale mends it: the gradient itself is at fault
                break
            self.forget_gradients()
        return {"loss": loss, "grad_norm": norm}

    def clip(self) -> float:
        """Take the loss's scale out of the gradient, shorten it where it is too long and return the length it had."""
        return clip_gradients(self.model, self.config.clip, scale=self.scale.factor, world=self.world)

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

    def tensors(self) -> dict[str, Tensors]:
        """Return the weights, and the state of the optimizers, by name."""
        return {
            "model": {name: weight.detach() for name, weight in self.model.named_parameters()},
            "optimizer": optimizer_tensors(self.model, self.optimizers),
        }

    def load(self, tensors: Mapping[str, Tensors]) -> None:
        """Take over what `tensors` gave, in whole tensors."""
        weights = tensors["model"]
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.copy_(placed(weights[name], weight))
        load_optimizer_tensors(self.model, self.optimizers, tensors["optimizer"])

    def summed(self, inputs: Tensor, targets: Tensor, stopping: Callable[[], bool]) -> float | None:
        """Add up the scaled gradients of the batch's mean loss and return that loss, or None when asked to stop."""
        config = self.config
        counted = self.world.total_of_rows((targets != IGNORED).sum()) // self.world.parallel.context_parallel_degree
        count = counted.clamp(min=1).to(config.device)
        total = torch.zeros((), device=config.device)
        size = self.loss.rows_at_once
        for start in range(0, len(inputs), size):
            rows = slice(start, start + size)
            if stopping():
                return None
            part = inputs[rows].to(config.device), targets[rows].to(config.device)
            total += self.loss.backward(*part, count, self.scale.factor, last=rows.stop >= len(inputs))
        return float(self.world.total_of_rows(total))
