"""Losses over the vocabulary that never hold the scores of all tokens at once."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100
"""A target that counts nothing, as in transformers."""

CHUNK = 1024
"""Tokens whose scores are in memory at once."""

ChunkLoss = Callable[..., Tensor]


def vocabulary_loss(hidden_NE: Tensor, weight_VE: Tensor, loss: ChunkLoss, *others: Tensor) -> Tensor:
    """Return `loss(logits, *others)` summed over chunks of the tokens, where `logits = hidden @ weight.T`.

    Gradients are taken chunk by chunk in the forward pass, so scores live for one chunk only (Hsu et al., "Liger
    Kernel", 2024). `others` are cut along the first dimension too and get no gradient; `loss` must be a sum over
    tokens.
    """
    if not torch.is_grad_enabled():
        chunks = _chunks(hidden_NE, *others)
        return torch.stack([loss(F.linear(part, weight_VE), *rest) for part, *rest in chunks]).sum()
    total: Tensor = _ChunkedLoss.apply(hidden_NE, weight_VE, loss, *others)  # type: ignore[no-untyped-call]
    return total


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the tensors in pieces of as many tokens as fit in memory at once."""
    return zip(*(torch.split(tensor, CHUNK) for tensor in tensors), strict=True)


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_NE: Tensor, weight_VE: Tensor, loss: ChunkLoss, *others: Tensor) -> Tensor:
        weight = weight_VE.detach().requires_grad_()
        total = hidden_NE.new_zeros((), dtype=torch.float32)
        grad_weight = torch.zeros_like(weight_VE)
        grads = []
        for part, *rest in _chunks(hidden_NE.detach(), *others):
            with torch.enable_grad():
                chunk = part.requires_grad_()
                value = loss(F.linear(chunk, weight), *rest)
            grad_chunk, grad = torch.autograd.grad(value, (chunk, weight))
            total += value.detach()
            grad_weight += grad
            grads.append(grad_chunk)
        ctx.save_for_backward(torch.cat(grads), grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        absent = [None] * (len(ctx.needs_input_grad) - 2)
        return grad_hidden * grad_total, grad_weight * grad_total, *absent


def summed_cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Return the cross-entropy summed over the targets that count, in nats and fp32."""
    return F.cross_entropy(logits_NV.float(), targets_N, ignore_index=IGNORED, reduction="sum")


def causal_cross_entropy(
    model: Any, inputs_BS: Tensor, targets_BS: Tensor, positions_BS: Tensor | None = None
) -> Tensor:
    """Return the cross-entropy of a causal model's next tokens, summed over the targets that count.

    Where `positions_BS` does not go on by one, attention does not look back.
    """
    hidden = model.model(input_ids=inputs_BS, position_ids=positions_BS, use_cache=False).last_hidden_state
    return vocabulary_loss(hidden.flatten(0, 1), model.lm_head.weight, summed_cross_entropy, targets_BS.flatten())
