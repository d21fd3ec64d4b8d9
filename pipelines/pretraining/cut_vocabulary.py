"""Cross-entropy where each process has the output vectors of some tokens: the whole scores are in no memory."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def cut_cross_entropy(hidden_NE: Tensor, weight_VE: DTensor, targets_N: Tensor, ignored: int, chunk: int) -> Tensor:
    """Return the summed cross-entropy where each process has the output vectors of some tokens, the same in each."""
    mesh, local_VE = weight_VE.device_mesh, weight_VE.to_local()
    first = mesh.get_local_rank() * local_VE.shape[0]
    total: Tensor = _CutCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_NE, local_VE, targets_N - first, targets_N != ignored, mesh.get_group(), chunk
    )
    return total


class _CutCrossEntropy(torch.autograd.Function):
    """Chunk by chunk, gradients in the forward pass: of the scores only row maxima and sums go round the processes."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NE: Tensor,
        weight_VE: Tensor,
        places_N: Tensor,
        counted_N: Tensor,
        group: dist.ProcessGroup,
        chunk: int,
    ) -> Tensor:
        device = hidden_NE.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_NE.dtype
        weight = weight_VE.to(dtype)
        total = hidden_NE.new_zeros((), dtype=torch.float32)
        grad_hidden, grad_weight = torch.empty_like(hidden_NE), torch.zeros_like(weight_VE)
        parts = (torch.split(tensor, chunk) for tensor in (grad_hidden, hidden_NE.to(dtype), places_N, counted_N))
        for grad_part, part, places, counted in zip(*parts, strict=True):
            value, grad_logits = _chunk_gradient(nn.functional.linear(part, weight), places, counted, group)
            total += value
            grad_part.copy_(grad_logits @ weight)
            grad_weight += grad_logits.mT @ part
        dist.all_reduce(grad_hidden, group=group)
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad_total, grad_weight * grad_total, None, None, None, None


def _chunk_gradient(
    logits_NV: Tensor, places_N: Tensor, counted_N: Tensor, group: dist.ProcessGroup
) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy and its gradient by the own logits; targets elsewhere have places beyond them."""
    scores_NV, counted_N1, places_N1 = logits_NV.float(), counted_N[:, None], places_N[:, None]
    here_N1 = counted_N1 & (places_N1 >= 0) & (places_N1 < scores_NV.shape[1])
    places_N1 = places_N1.where(here_N1, 0)
    highest_N1 = scores_NV.amax(1, keepdim=True)
    dist.all_reduce(highest_N1, dist.ReduceOp.MAX, group)
    expected_N1 = scores_NV.gather(1, places_N1).where(here_N1, 0.0)
    dist.all_reduce(expected_N1, group=group)
    scores_NV = (scores_NV - highest_N1).exp_()
    sums_N1 = scores_NV.sum(1, keepdim=True)
    dist.all_reduce(sums_N1, group=group)
    value = (sums_N1.log() + (highest_N1 - expected_N1))[counted_N1].sum()
    scores_NV.mul_(counted_N1 / sums_N1).scatter_add_(1, places_N1, -here_N1.to(scores_NV.dtype))
    return value, scores_NV.to(logits_NV.dtype)
