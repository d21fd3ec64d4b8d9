"""Causal attention in blocks of queries by plain matrix products: on a CPU faster than the fused kernel of torch.

A block of queries meets only the keys up to its end, so the upper half of the score matrix is never computed. The
scores are kept for the backward pass, so memory grows with the square of the length: for long sequences and GPUs the
fused kernel stays the better choice.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

BLOCK = 128
"""Queries in a block."""


def register_blockwise() -> None:
    """Make the name `blockwise` known to transformers' models."""
    AttentionInterface.register("blockwise", blockwise_attention)
    AttentionMaskInterface.register("blockwise", _no_mask)


def _no_mask(*_: Any, attention_mask: Tensor | None = None, **__: Any) -> None:
    if attention_mask is not None:
        raise ValueError("blockwise attention takes no mask; pad on the right and ignore those targets")


def blockwise_attention(
    module: torch.nn.Module,
    query_BHSE: Tensor,
    key_BKSE: Tensor,
    value_BKSE: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Return causal attention, `[batch, sequence, heads, head width]`, and no weights; dropout is not supported.

    Raises ValueError for a mask or cached keys: it is made for training.
    """
    batch, heads, length, width = query_BHSE.shape
    kv_heads = key_BKSE.shape[1]
    if attention_mask is not None or key_BKSE.shape[2] != length:
        raise ValueError("blockwise attention takes whole sequences without a mask; use sdpa to generate")
    query = (query_BHSE * scaling).reshape(batch * kv_heads, -1, length, width)
    key = key_BKSE.reshape(batch * kv_heads, 1, length, width)
    value = value_BKSE.reshape(batch * kv_heads, 1, length, width)
    future = torch.ones(BLOCK, BLOCK, dtype=torch.bool, device=query.device).triu(1)
    blocks = [_block(query, key, value, future, start) for start in range(0, length, BLOCK)]
    return torch.cat(blocks, dim=2).view(batch, heads, length, width).transpose(1, 2).contiguous(), None


def _block(query: Tensor, key: Tensor, value: Tensor, future: Tensor, start: int) -> Tensor:
    """Return the attention of the queries from `start` on over the keys up to their own."""
    rows = query[:, :, start : start + BLOCK]
    end = start + rows.shape[2]
    scores = rows @ key[:, :, :end].transpose(2, 3)
    scores[..., start:].masked_fill_(future[: rows.shape[2], : rows.shape[2]], float("-inf"))
    return scores.softmax(-1).to(value.dtype) @ value[:, :, :end]
