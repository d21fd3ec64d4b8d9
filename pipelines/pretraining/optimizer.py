"""The optimizers of a model, and their state as named tensors."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Adafactor, AdamW, Optimizer

from pipelines.artifacts.errors import UserError
from pipelines.models.parts import block_weights
from pipelines.pretraining.muon import Muon
from pipelines.pretraining.optimizer_settings import OptimizerName, WeightKind
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.sharding import held, placed
from pipelines.pretraining.sophia import Sophia
from pipelines.pretraining.world import ALONE, World

Group = dict[str, Any]
LIBRARIES: Mapping[OptimizerName, tuple[str, str]] = {
    "lion": ("lion_pytorch", "lion-pytorch"),
    "adamw8bit": ("bitsandbytes", "bitsandbytes"),
}
"""The module of an optimizer that torch does not bring, and the package that holds it."""
WHOLE_ONLY: tuple[OptimizerName, ...] = ("adafactor", "adamw8bit")
"""Optimizers whose state is of another shape than the weights: a process must hold a weight whole."""


def check_optimizer(config: LoopConfig, *, cut: bool, sampling: bool = True) -> None:
    """Raise UserError where the optimizer cannot be used: on weights that are cut, for this objective, or at all."""
    name = config.optimizer
    module, package = LIBRARIES.get(name, ("torch", "torch"))
    if find_spec(module) is None:
        raise UserError(f"optimizer: {name!r} needs the package {package}; pip install {package}, or set adamw")
    if cut and name in WHOLE_ONLY:
        raise UserError(
            f"optimizer: {name!r} needs whole weights and parallel cuts them; give all processes to "
            "parallel.data_parallel_replicate_degree, or set optimizer to 'adamw'"
        )
    if name == "sophia" and not sampling:
        raise UserError(
            "optimizer: 'sophia' draws next tokens from the model, which pretrain with the causal objective on uncut "
            "blocks alone does; set it to 'adamw'"
        )


def build_optimizers(model: nn.Module, config: LoopConfig) -> list[Optimizer]:
    """Return the optimizers that together hold each weight once, in groups with rates and weight decay of their own.

    Muon's steps are scaled so that it shares AdamW's learning rate.
    """
    groups: dict[str, Group] = {
        kind: {
            "params": weights,
            "lr": (own := config.rates.of(kind, config.lr)),
            "lr_share": own / config.lr,
            "weight_decay": config.weight_decay if kind in config.decayed else 0.0,
        }
        for kind, weights in weight_groups(model).items()
        if weights
    }
    if config.optimizer != "muon":
        return [BUILDERS[config.optimizer](list(groups.values()), config)]
    matrices = groups.pop("matrices")
    return [_adamw(list(groups.values()), config), Muon([matrices], lr=config.lr, weight_decay=0.0)]


def _adamw(groups: list[Group], config: LoopConfig) -> Optimizer:
    return AdamW(groups, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=True)


def _lion(groups: list[Group], config: LoopConfig) -> Optimizer:
    """Chen et al., "Symbolic discovery of optimization algorithms" (2023)."""
    from lion_pytorch import Lion

    lion: Optimizer = Lion(groups, betas=(config.beta1, config.beta2))
    return lion


def _adafactor(groups: list[Group], config: LoopConfig) -> Optimizer:
    """Shazeer and Stern, "Adafactor" (2018): the rate is a share of a weight's own size."""
    return Adafactor(groups)


def _adamw8bit(groups: list[Group], config: LoopConfig) -> Optimizer:
    """Dettmers et al., "8-bit optimizers via block-wise quantization" (2022); small weights keep 32 bits."""
    from bitsandbytes.optim.adamw import AdamW8bit

    adamw: Optimizer = AdamW8bit(groups, betas=(config.beta1, config.beta2), eps=config.epsilon)  # type: ignore[no-untyped-call]
    return adamw


def _sophia(groups: list[Group], config: LoopConfig) -> Optimizer:
    return Sophia(groups, betas=(config.beta1, config.beta2), gamma=config.sophia.gamma)


BUILDERS: Mapping[str, Callable[[list[Group], LoopConfig], Optimizer]] = {
    "adamw": _adamw,
    "lion": _lion,
    "adafactor": _adafactor,
    "adamw8bit": _adamw8bit,
    "sophia": _sophia,
}


def weight_groups(model: nn.Module) -> dict[WeightKind, list[Parameter]]:
    """Return the weights by kind: the blocks' matrices, the vocabulary's two tables, and all vectors."""
    groups: dict[WeightKind, list[Parameter]] = {"matrices": [], "embedding": [], "unembedding": [], "vectors": []}
    inner = block_weights(model)
    looked_up = {table.weight for table in model.modules() if isinstance(table, nn.Embedding)}
    for name, weight in model.named_parameters():
        table: WeightKind = "unembedding" if name.startswith("lm_head.") else "embedding"
        inside: WeightKind = "vectors" if weight in looked_up else "matrices"  # T5's distances: a number a head
        groups["vectors" if weight.ndim < 2 else inside if weight in inner else table].append(weight)
    return groups


def set_lr(optimizers: list[Optimizer], lr: float) -> None:
    """Give the weights this learning rate for the next step, each kind its share of it."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_share"]


def optimizer_tensors(model: nn.Module, optimizers: list[Optimizer]) -> dict[str, Tensor]:
    """Return the optimizers' state as `WEIGHT:FIELD` tensors; what is no tensor is an integer, and becomes one.

    bitsandbytes' weights share their quantization maps, which are copied: no memory is written to a file twice.
    """
    names: dict[Tensor, str] = {weight: name for name, weight in model.named_parameters()}
    return {
        f"{names[weight]}:{field}": torch.tensor(value) if isinstance(value, int) else _own(field, value)
        for optimizer in optimizers
        for weight, fields in optimizer.state.items()
        for field, value in fields.items()
    }


def _own(field: str, value: Tensor) -> Tensor:
    return value.clone() if field.startswith("qmap") else value


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
                        field: _restored(tensors[f"{name}:{field}"], weight) for field in fields[name]
                    }


def _restored(value: Tensor, weight: Tensor) -> Tensor | int:
    """Return a field of the state of a weight; an integer without a shape was none."""
    return int(value) if value.ndim == 0 and not value.is_floating_point() else placed(value, weight)


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
