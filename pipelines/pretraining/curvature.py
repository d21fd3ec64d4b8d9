"""The curvature that Sophia divides by: the estimate of Gauss, Newton and Bartlett (Liu et al., 2023, section 2.3)."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.models.parts import output_vectors
from pipelines.pretraining.losses import CHUNK, IGNORED
from pipelines.pretraining.precision import arithmetic
from pipelines.pretraining.sophia import Sophia
from pipelines.pretraining.step import TrainingStep

STREAM = 0x50F1A
"""Sets the draws of labels apart from whatever else a seed and a step fix."""


@runtime_checkable
class Sampling(Protocol):
    """An objective whose targets can be drawn from the model itself."""

    def drawn(self, model: Any, inputs: Tensor, targets: Tensor, uniform: Tensor) -> Tensor:
        """Return targets drawn from the model's distribution by numbers between 0 and 1 in their shape."""
        ...


class Curvature:
    """Estimates the curvature on a step's own batch, every few steps, where the optimizer is Sophia."""

    def __init__(self, step: TrainingStep, objective: object) -> None:
        self.step = step
        self.objective = objective if isinstance(objective, Sampling) else None
        self.sophia = next((found for found in step.optimizers if isinstance(found, Sophia)), None)

    def update(self, number: int, inputs: Tensor, targets: Tensor) -> None:
        """Renew the estimate in step `number`, counted from 1, where one is due; the gradients at hand stay.

        The labels depend on the seed, the step and the place in the global batch alone, so a run that is resumed or
        spread over other processes draws the same ones.
        """
        config, world = self.step.config, self.step.world
        if self.sophia is None or self.objective is None or (number - 1) % config.sophia.every:
            return
        weights = list(self.step.model.parameters())
        gradients = [None if weight.grad is None else weight.grad.clone() for weight in weights]  # DDP reuses theirs
        self.step.forget_gradients()
        generator = torch.Generator().manual_seed(config.seed * STREAM + number)
        uniform = torch.rand((config.global_batch, inputs.shape[1]), generator=generator)
        labels = self._drawn(self.objective, inputs, targets, uniform[world.rows(config.global_batch)])
        self.step.summed(inputs, labels, lambda: False)
        count = float(world.total((targets != IGNORED).sum()))
        self.sophia.update_curvature(count / self.step.scale.factor**2)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient

    def _drawn(self, objective: Sampling, inputs: Tensor, targets: Tensor, uniform: Tensor) -> Tensor:
        """Return labels for the rows of this process, drawn for as many rows at once as are trained at once."""
        config = self.step.config
        parts = zip(*(torch.split(whole, config.micro_batch) for whole in (inputs, targets, uniform)), strict=True)
        with torch.no_grad(), arithmetic(config), self.step.loss.measuring():
            drawn = [objective.drawn(self.step.model, *(part.to(config.device) for part in rows)) for rows in parts]
        return torch.cat(drawn).cpu()


def drawn_targets(
    model: Any, inputs_BS: Tensor, targets_BS: Tensor, uniform_BS: Tensor, positions_BS: Tensor | None = None
) -> Tensor:
    """Return next tokens drawn from a causal model where a target counts: where its distribution passes `uniform`."""
    hidden = model.base_model(input_ids=inputs_BS, position_ids=positions_BS, use_cache=False).last_hidden_state
    chunks = (torch.split(whole, CHUNK) for whole in (hidden.flatten(0, 1), uniform_BS.flatten()))
    drawn = []
    for part, uniform in zip(*chunks, strict=True):
        passed = F.linear(part, output_vectors(model)).float().softmax(-1).cumsum(-1)
        drawn.append(torch.searchsorted(passed, uniform[:, None] * passed[:, -1:]).squeeze(1))
    return torch.cat(drawn).view_as(targets_BS).masked_fill(targets_BS == IGNORED, IGNORED)
