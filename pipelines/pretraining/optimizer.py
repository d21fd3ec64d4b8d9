"""The optimizers of a model, and their state as named tensors."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer

from pipelines.models.parts import block_weights
from pipelines.pretraining.muon import Muon
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.sharding import held, placed
from pipelines.pretraining.world import ALONE, World


def build_optimizers(model: nn.Module, config: LoopConfig) -> list[Optimizer]:
    """Return the optimizers that together hold each weight once; vectors are not decayed.

    Muon takes the matrices of the blocks; its steps are scaled so that it shares AdamW's learning rate.
    """
    groups = weight_groups(model)
    matrices, tables, vectors = groups["matrices"], groups["tables"], groups["vectors"]
    decayed = tables if config.optimizer == "muon" else [*tables, *matrices]
    adamw = AdamW(
        [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=1e-8,
        fused=True,
    )
    if config.optimizer == "adamw":
        return [adamw]
    muon = Muon(matrices, lr=config.lr, weight_decay=config.weight_decay)
    return [adamw, muon]


def weight_groups(model: nn.Module) -> dict[str, list[Parameter]]:
    """Return the weights in three groups: the blocks' matrices, the vocabulary's tables, and all vectors."""
    groups: dict[str, list[Parameter]] = {"matrices": [], "tables": [], "vectors": []}
    inner = block_weights(model)
    for weight in model.parameters():
        kind = "vectors" if weight.ndim < 2 else "matrices" if weight in inner else "tables"
        groups[kind].append(weight)
    return groups


def set_lr(optimizers: list[Optimizer], lr: float) -> None:
    """Give all weights this learning rate for the next step."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr


def optimizer_tensors(model: nn.Module, optimizers: list[Optimizer]) -> dict[str, Tensor]:
    """Return the optimizers' state as `WEIGHT:FIELD` tensors."""
    names: dict[Tensor, str] = {weight: name for name, weight in model.named_parameters()}
    return {
        f"{names[weight]}:{field}": value
        for optimizer in optimizers
        for weight, fields in optimizer.state.items()
        for field, value in fields.items()
    }


def load_optimizer_tensors(model: nn.Module, optimizers: list[Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Put a saved state back; weights that it does not name start afresh."""
    fields: dict[str, list[str]] = {}
    for key in tensors:
        name, _, field = key.rpartition(":")
        fields.setdefault(name, []).append(field)
    names: dict[Tensor, str] = {weight: name for name, weight in model.named_parameters()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for weight in group["params"]:
                name = names[weight]
                if name in fields:
                    optimizer.state[weight] = {
                        field: placed(tensors[f"{name}:{field}"], weight) for field in fields[name]
                    }


def clip_gradients(model: nn.Module, longest: float, *, scale: float = 1.0, world: World = ALONE) -> float:
    """Take the loss's `scale` out of the gradient, shorten it to `longest` at most and return the length it had."""
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    parts = [held(gradient) for gradient in gradients.values()]
    if scale != 1.0:
        torch._foreach_div_(parts, scale)
    length = world.length(gradients)
    factor = torch.clamp(longest / (torch.tensor(length) + 1e-6), max=1.0)  # in fp32, as torch's own clipping
    torch._foreach_mul_(parts, factor.to(parts[0].device))
    return length
