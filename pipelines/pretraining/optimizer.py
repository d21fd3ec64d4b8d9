"""The optimizers of a model, and their state as named tensors."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from pipelines.pretraining.muon import Muon
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.sharding import placed, whole


def build_optimizers(model: nn.Module, config: LoopConfig) -> list[Optimizer]:
    """Return the optimizers that together hold each weight once; vectors are not decayed.

    Muon takes the matrices of the blocks; its steps are scaled so that it shares AdamW's learning rate.
    """
    named = list(model.named_parameters())
    matrices = [weight for name, weight in named if weight.ndim == 2 and ".layers." in name]
    tables = [weight for name, weight in named if weight.ndim == 2 and ".layers." not in name]
    vectors = [weight for _, weight in named if weight.ndim != 2]
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


def clip_gradients(model: nn.Module, longest: float) -> float:
    """Scale the gradient down to length `longest` at most and return the length it had."""
    return float(whole(torch.nn.utils.clip_grad_norm_(model.parameters(), longest)))
