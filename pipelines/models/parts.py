"""The parts that transformers' models have in common, whatever each class calls them."""

from typing import Any

from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer


def blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of a model, in order: all of its layers that could forget their activations."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def block_weights(model: nn.Module) -> set[nn.Parameter]:
    """Return the weights that belong to a block."""
    return {weight for block in blocks(model) for weight in block.parameters()}


def is_mixture(model: Any) -> bool:
    """Return whether the blocks have experts."""
    return hasattr(model, "num_experts_per_tok")


def output_vectors(model: Any) -> Tensor:
    """Return the matrix that turns hidden states into scores, `[vocabulary, width]`."""
    weight: Tensor = model.get_output_embeddings().weight
    return weight
