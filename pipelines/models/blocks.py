"""The operator `gristmill::blockwise_attention`: causal attention by plain products over blocks of queries.

A block of queries meets only the keys from the start of its first document up to its own end, so the upper half of
the score matrix is never computed, nor what lies before a document. The scores of one block and a few heads are in
memory at a time, and the backward pass computes them again (Dao, "FlashAttention-2", 2023), so memory grows with the
length and not with its square. As a block holds whole rows of the score matrix, torch's own softmax does them: no
running maximum is kept, and nothing is saved but query, key and value.

The compiler's caches know an operator by its name: where the layout of what it or its gradient returns changes, so
must the name.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BLOCK = 128
"""Queries in a block, of each head."""
SCORES = 4 << 20
"""Bytes of scores in memory at once, unless one head's block has more: many heads to a product, but within a cache."""


@torch.library.custom_op("gristmill::blockwise_attention", mutates_args=())
def causal_attention(
    query_BHSE: Tensor, key_BKSE: Tensor, value_BKSE: Tensor, starts_BS: Tensor | None, scale: float
) -> Tensor:
    """Return `softmax(scale * query @ key.T) @ value`, contiguous `[batch, sequence, heads, head width]`.

    A query sees the keys from the start of its document, by `starts_BS` or 0, up to its own place. Heads of `query`
    share those of `key` in groups, in order. To the compiler it is one opaque step.
    """
    queries, key_NSE, value_NSE = _by_blocks(query_BHSE, key_BKSE), key_BKSE.flatten(0, 1), value_BKSE.flatten(0, 1)
    outs = [torch.empty_like(part) for part in queries]
    with torch.autocast(query_BHSE.device.type, enabled=False):
        scratch = Scratch(query_BHSE)
        for block in _blocks(query_BHSE, key_BKSE, starts_BS):
            weights = block.weights(block.own(queries), block.keys(key_NSE), scale, scratch)
            torch.bmm(weights, block.keys(value_NSE), out=block.own(outs))
    return torch.cat([part.transpose(1, 2) for part in _heads(outs, query_BHSE)], dim=1)


@torch.library.custom_op("gristmill::blockwise_attention_backward", mutates_args=())
def causal_attention_backward(
    query_BHSE: Tensor, key_BKSE: Tensor, value_BKSE: Tensor, starts_BS: Tensor | None, scale: float, grad_BSHE: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value; what half precision adds up over blocks is added up in fp32."""
    queries, grads = _by_blocks(query_BHSE, key_BKSE), _by_blocks(grad_BSHE.transpose(1, 2), key_BKSE)
    grad_queries = [torch.empty_like(part) for part in queries]
    key_NSE, value_NSE = key_BKSE.flatten(0, 1), value_BKSE.flatten(0, 1)
    wide = torch.promote_types(key_BKSE.dtype, torch.float32)
    grad_key, grad_value = (torch.zeros_like(keys, dtype=wide) for keys in (key_NSE, value_NSE))
    with torch.autocast(query_BHSE.device.type, enabled=False):
        weights_scratch, scores_scratch = Scratch(query_BHSE), Scratch(query_BHSE)
        for block in _blocks(query_BHSE, key_BKSE, starts_BS):
            query, key, value = block.own(queries), block.keys(key_NSE), block.keys(value_NSE)
            grad = block.own(grads)
            weights = block.weights(query, key, scale, weights_scratch)
            _add_product(block.among_keys(grad_value), weights.mT, grad, 1.0)
            scores = torch.bmm(grad, value.mT, out=scores_scratch.take(weights.shape))
            torch._softmax_backward_data(scores, weights, -1, weights.dtype, grad_input=scores)
            torch.baddbmm(query, scores, key, beta=0, alpha=scale, out=block.own(grad_queries))
            _add_product(block.among_keys(grad_key), scores.mT, query, scale)
    key_shape, narrow = key_BKSE.shape, key_BKSE.dtype
    return (
        torch.cat(_heads(grad_queries, query_BHSE), dim=2),
        grad_key.to(narrow).view(key_shape),
        grad_value.to(narrow).view(key_shape),
    )


def _by_blocks(x_BHSE: Tensor, key_BKSE: Tensor) -> list[Tensor]:
    """Return the rows of each block, which a product over many heads then reads where they lie.

    A part is contiguous, `[heads of keys of the whole batch, rows of the heads that share one, width]`.
    """
    heads = key_BKSE.shape[0] * key_BKSE.shape[1]
    return [part.reshape(heads, -1, part.shape[-1]).contiguous() for part in torch.split(x_BHSE, BLOCK, dim=2)]


def _heads(parts: list[Tensor], like_BHSE: Tensor) -> list[Tensor]:
    """Return what `_by_blocks` gave with the heads of each row apart: `[batch, heads, rows, width]` of each block."""
    batch, heads, _, width = like_BHSE.shape
    return [part.view(batch, heads, -1, width) for part in parts]


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
    """The queries of the block `number` for some heads of keys, and the keys from `first` to `end` that they see.

    `bias_QK`, zero or minus infinity, is for the scores of the last keys; the earlier ones all queries see.
    """

    heads: slice
    number: int
    first: int
    end: int
    bias_QK: Tensor

    def own(self, parts: list[Tensor]) -> Tensor:
        """Return the block's own rows of what `_by_blocks` gave: `[heads, rows, width]`."""
        return parts[self.number][self.heads]

    def among_keys(self, x_NSE: Tensor) -> Tensor:
        """Return the rows that the queries see, where they lie: `[heads, keys, width]`."""
        return x_NSE[self.heads, self.first : self.end]

    def keys(self, x_NSE: Tensor) -> Tensor:
        """Return the same contiguous, which a product would ask for each time that it meets them."""
        return self.among_keys(x_NSE).contiguous()

    def weights(self, query: Tensor, key: Tensor, scale: float, scratch: Scratch) -> Tensor:
        """Return the softmax of the scores, `[heads, rows, keys]`, zero for unseen keys."""
        scores = scratch.take((len(key), query.shape[1], key.shape[1]))
        torch.baddbmm(scores, query, key.mT, beta=0, alpha=scale, out=scores)
        queries, keys = self.bias_QK.shape
        scores.view(len(key), -1, queries, key.shape[1])[..., -keys:].add_(self.bias_QK)
        return torch.softmax(scores, -1, out=scores)


def _blocks(query_BHSE: Tensor, key_BKSE: Tensor, starts_BS: Tensor | None) -> Iterator[Block]:
    """Yield blocks that together hold every query once, those of a head in order.

    Where documents start within rows, a block has heads of one row, else of as many as there is room for.
    """
    batch, heads, length, _ = query_BHSE.shape
    key_heads = key_BKSE.shape[1]
    room = SCORES // (heads // key_heads * BLOCK * length * query_BHSE.element_size())
    future = query_BHSE.new_full((BLOCK, BLOCK), -torch.inf).triu(1)
    if starts_BS is not None and not starts_BS.any():
        starts_BS = None
    rows = [None] if starts_BS is None else list(starts_BS)
    in_row = batch * key_heads // len(rows)
    for row, starts_S in enumerate(rows):
        firsts = None if starts_S is None else starts_S[::BLOCK].tolist()
        for number, start in enumerate(range(0, length, BLOCK)):
            end = min(start + BLOCK, length)
            first, bias = 0, future[: end - start, : end - start]
            if firsts is not None and starts_S is not None:
                first = firsts[number]
                bias = _bias(starts_S[start:end], first, start, end, bias)
            for heads_at_once in _slices(row * in_row, in_row, room):
                yield Block(heads_at_once, number, first, end, bias)


def _slices(start: int, count: int, room: int) -> Iterator[slice]:
    """Yield slices of nearly the same size, `room` at most but for one, that hold `count` from `start` on."""
    pieces = -(-count // max(room, 1))
    for piece in range(pieces):
        yield slice(start + piece * count // pieces, start + (piece + 1) * count // pieces)


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


@causal_attention_backward.register_fake
def _(
    query_BHSE: Tensor, key_BKSE: Tensor, value_BKSE: Tensor, starts_BS: Tensor | None, scale: float, grad_BSHE: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = (x.new_empty(x.shape) for x in (query_BHSE, key_BKSE, value_BKSE))
    return query, key, value


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad_BSHE: Tensor) -> tuple[Tensor | None, ...]:
    return *causal_attention_backward(*ctx.saved_tensors, ctx.scale, grad_BSHE), None, None


causal_attention.register_autograd(_backward, setup_context=_keep)
