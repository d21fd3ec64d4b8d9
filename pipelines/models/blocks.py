"""The operator `gristmill::causal_attention`: causal attention by plain products over blocks of queries.

A block of queries meets only the keys from the start of its first document up to its own end, so the upper half of
the score matrix is never computed, nor what lies before a document. The scores of one block and a few heads are in
memory at a time, and the backward pass computes them again (Dao, "FlashAttention-2", 2023), so memory grows with the
length and not with its square. As a block holds whole rows of the score matrix, torch's own softmax does them: no
running maximum is kept, and nothing is saved but query, key and value.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BLOCK = 128
"""Queries in a block, of each head."""
SCORES = 1 << 18
"""Scores in memory at once, unless one head's block has more: what a core's cache holds."""


@torch.library.custom_op("gristmill::causal_attention", mutates_args=())
def causal_attention(
    query_BHSE: Tensor, key_BKSE: Tensor, value_BKSE: Tensor, starts_BS: Tensor | None, scale: float
) -> Tensor:
    """Return `softmax(scale * query @ key.T) @ value`, contiguous `[batch, sequence, heads, head width]`.

    A query sees the keys from the start of its document, by `starts_BS` or 0, up to its own place. Heads of `query`
    share those of `key` in groups, in order. To the compiler it is one opaque step.
    """
    batch, heads, length, width = query_BHSE.shape
    out = query_BHSE.new_empty(batch, length, heads, width)
    with torch.autocast(query_BHSE.device.type, enabled=False):
        scratch = Scratch(query_BHSE)
        for block in _blocks(query_BHSE, key_BKSE, starts_BS):
            weights = block.weights(block.queries(query_BHSE), block.keys(key_BKSE), scale, scratch)
            block.put(out.transpose(1, 2), weights @ block.keys(value_BKSE))
    return out


@torch.library.custom_op("gristmill::causal_attention_gradients", mutates_args=())
def causal_attention_gradients(
    query_BHSE: Tensor, key_BKSE: Tensor, value_BKSE: Tensor, starts_BS: Tensor | None, scale: float, grad_BSHE: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value; what half precision adds up over blocks is added up in fp32."""
    wide = torch.promote_types(key_BKSE.dtype, torch.float32)
    grad_query = torch.empty_like(query_BHSE)
    grad_key, grad_value = (torch.zeros_like(keys, dtype=wide) for keys in (key_BKSE, value_BKSE))
    with torch.autocast(query_BHSE.device.type, enabled=False):
        weights_scratch, scores_scratch = Scratch(query_BHSE), Scratch(query_BHSE)
        for block in _blocks(query_BHSE, key_BKSE, starts_BS):
            query, key, value = block.queries(query_BHSE), block.keys(key_BKSE), block.keys(value_BKSE)
            grad = block.queries(grad_BSHE.transpose(1, 2))
            weights = block.weights(query, key, scale, weights_scratch)
            _add_product(block.keys(grad_value), weights.mT, grad, 1.0)
            scores = torch.bmm(grad, value.mT, out=scores_scratch.take(weights.shape))
            torch._softmax_backward_data(scores, weights, -1, weights.dtype, grad_input=scores)
            block.put(grad_query, torch.baddbmm(query, scores, key, beta=0, alpha=scale))
            _add_product(block.keys(grad_key), scores.mT, query, scale)
    return grad_query, grad_key.to(key_BKSE.dtype), grad_value.to(value_BKSE.dtype)


class Scratch:
    """Memory for the scores of any block, so that none is asked for, and its pages touched anew, at every one."""

    def __init__(self, like: Tensor) -> None:
        self.like, self.flat = like, like.new_empty(0)

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """Return a tensor of this shape that overwrites the last one."""
        size = math.prod(shape)
        if size > len(self.flat):
            self.flat = self.like.new_empty(size)
        return self.flat[:size].view(shape)


@dataclass(frozen=True)
class Block:
    """The queries `start` to `end` of some heads in one row of the batch, and the keys from `first` on that they see.

    `bias_QK`, zero or minus infinity, is for the scores of the last keys; the earlier ones all queries see.
    """

    row: int
    query_heads: slice
    key_heads: slice
    first: int
    start: int
    end: int
    bias_QK: Tensor

    def queries(self, x_BHSE: Tensor) -> Tensor:
        """Return the block's own rows, those of heads that share keys below each other: `[key heads, rows, width]`."""
        rows = x_BHSE[self.row, self.query_heads, self.start : self.end]
        return rows.reshape(self.key_heads.stop - self.key_heads.start, -1, rows.shape[-1])

    def keys(self, x_BKSE: Tensor) -> Tensor:
        """Return the rows that the queries see: `[key heads, keys, width]`."""
        return x_BKSE[self.row, self.key_heads, self.first : self.end]

    def put(self, x_BHSE: Tensor, rows: Tensor) -> None:
        """Write what has the shape of `queries` to its place."""
        place = x_BHSE[self.row, self.query_heads, self.start : self.end]
        place.copy_(rows.view(place.shape))

    def weights(self, query: Tensor, key: Tensor, scale: float, scratch: Scratch) -> Tensor:
        """Return the softmax of the scores, `[key heads, rows, keys]`, zero for unseen keys."""
        scores = scratch.take((len(key), query.shape[1], key.shape[1]))
        torch.baddbmm(scores, query, key.mT, beta=0, alpha=scale, out=scores)
        queries, keys = self.bias_QK.shape
        scores.view(len(key), -1, queries, key.shape[1])[..., -keys:].add_(self.bias_QK)
        return torch.softmax(scores, -1, out=scores)


def _blocks(query_BHSE: Tensor, key_BKSE: Tensor, starts_BS: Tensor | None) -> Iterator[Block]:
    """Yield blocks that together hold every query once, those of a row in order."""
    batch, heads, length, _ = query_BHSE.shape
    key_heads = key_BKSE.shape[1]
    group = heads // key_heads
    at_once = min(max(SCORES // (group * BLOCK * length), 1), key_heads)
    future = query_BHSE.new_full((BLOCK, BLOCK), -torch.inf).triu(1)
    if starts_BS is not None and not starts_BS.any():
        starts_BS = None
    firsts = None if starts_BS is None else starts_BS[:, ::BLOCK].tolist()
    for row in range(batch):
        for number, start in enumerate(range(0, length, BLOCK)):
            end = min(start + BLOCK, length)
            first, bias = 0, future[: end - start, : end - start]
            if firsts is not None and starts_BS is not None:
                first = firsts[row][number]
                bias = _bias(starts_BS[row, start:end], first, start, end, bias)
            for head in range(0, key_heads, at_once):
                last = min(head + at_once, key_heads)
                yield Block(row, slice(head * group, last * group), slice(head, last), first, start, end, bias)


def _bias(starts_Q: Tensor, first: int, start: int, end: int, future_QQ: Tensor) -> Tensor:
    """Return the bias of a block in which documents may begin: over all its keys then, else `future_QQ`."""
    if int(starts_Q[-1]) == first:
        return future_QQ
    bias_QK = future_QQ.new_zeros(end - start, end - first)
    bias_QK[:, start - first :] = future_QQ
    places_K = torch.arange(first, end, device=starts_Q.device)
    return bias_QK.masked_fill_(places_K < starts_Q[:, None], -torch.inf)


def _add_product(total: Tensor, left: Tensor, right: Tensor, scale: float) -> None:
    """Add `scale * left @ right` to `total`, whose type may be wider than that of the product."""
    if total.dtype == left.dtype:
        total.baddbmm_(left, right, alpha=scale)
    else:
        total.add_(left @ right, alpha=scale)


@causal_attention.register_fake
def _(query_BHSE: Tensor, key_BKSE: Tensor, value_BKSE: Tensor, starts_BS: Tensor | None, scale: float) -> Tensor:
    batch, heads, length, width = query_BHSE.shape
    return query_BHSE.new_empty(batch, length, heads, width)


@causal_attention_gradients.register_fake
def _(
    query_BHSE: Tensor, key_BKSE: Tensor, value_BKSE: Tensor, starts_BS: Tensor | None, scale: float, grad_BSHE: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(query_BHSE), torch.empty_like(key_BKSE), torch.empty_like(value_BKSE)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad_BSHE: Tensor) -> tuple[Tensor | None, ...]:
    return *causal_attention_gradients(*ctx.saved_tensors, ctx.scale, grad_BSHE), None, None


causal_attention.register_autograd(_backward, setup_context=_keep)
