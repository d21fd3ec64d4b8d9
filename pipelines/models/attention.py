"""The attention `blockwise` of transformers' models: our own operator, on a CPU faster than torch's fused kernel."""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from pipelines.models.blocks import causal_attention


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
    dropout: float = 0.0,
    position_ids: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Return causal attention, `[batch, sequence, heads, head width]`, and no weights.

    Where `position_ids`, `[batch or 1, sequence]`, do not go on by one, a document starts, and no query sees behind the
    start of its own. Raises ValueError for a mask, cached keys or dropout: it is made for pre-training.
    """
    if attention_mask is not None or key_BKSE.shape[2] != query_BHSE.shape[2] or dropout:
        raise ValueError("blockwise attention takes whole sequences without mask or dropout; use sdpa for those")
    device = query_BHSE.device.type
    if torch.is_autocast_enabled(device):  # which casts for torch's own operators only; rotary positions give fp32
        dtype = torch.get_autocast_dtype(device)
        query_BHSE, key_BKSE, value_BKSE = query_BHSE.to(dtype), key_BKSE.to(dtype), value_BKSE.to(dtype)
    starts = None if position_ids is None else document_starts(position_ids).expand(len(query_BHSE), -1)
    return causal_attention(query_BHSE, key_BKSE, value_BKSE, starts, scaling), None


def document_starts(position_ids_BS: Tensor) -> Tensor:
    """Return at which place of its row the document of each token starts, in the same shape."""
    places = torch.arange(position_ids_BS.shape[1], device=position_ids_BS.device).expand_as(position_ids_BS)
    goes_on = position_ids_BS.diff(dim=1, prepend=position_ids_BS[:, :1] - 1) == 1
    return places.masked_fill(goes_on, 0).cummax(1).values
