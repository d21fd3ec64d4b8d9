"""Sequences cut over neighbouring processes, between which keys and values go round (torch's context parallelism).

As in Liu et al., "Ring Attention with Blockwise Transformers" (2023). A process has two pieces of each sequence, as far
from the middle on both sides, so that causal attention is the same work for all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor.experimental import context_parallel
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, AttentionMaskInterface

from pipelines.pretraining.mesh import ParallelConfig

NAME = "context"
FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
"""The kernels that also return what the pieces of a row's attention are added up by."""


class Contexts:
    """The processes that have parts of the same sequences, and where the tokens of this one stand in them."""

    def __init__(self, model: Any, mesh: DeviceMesh) -> None:
        self.mesh = mesh
        self._positions: Tensor | None = None
        AttentionInterface.register(NAME, whole_causal_attention)
        AttentionMaskInterface.register(NAME, _no_mask)
        model.set_attn_implementation(NAME)
        model.base_model.register_forward_pre_hook(self._placed, with_kwargs=True)

    @contextmanager
    def cut(self, inputs_BS: Tensor, targets_BS: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's tokens of whole sequences; in the block attention sees the neighbours' as well.

        Forward and backward pass both belong into the block, where `F.scaled_dot_product_attention` is another.
        """
        places_BS = torch.arange(inputs_BS.shape[1], device=inputs_BS.device).expand_as(inputs_BS)
        parts = [whole.clone() for whole in (inputs_BS, targets_BS, places_BS)]
        with (
            context_parallel(self.mesh, buffers=parts, buffer_seq_dims=[1] * 3, no_restore_buffers=set(parts)),
            sdpa_kernel(FUSED),
        ):
            inputs, targets, self._positions = parts
            try:
                yield inputs, targets
            finally:
                self._positions = None

    def _placed(
        self, trunk: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Tell the model where cut tokens stand, which it takes their rotary positions from."""
        return arguments, named if self._positions is None else {**named, "position_ids": self._positions}


def context_mesh(parallel: ParallelConfig, device: str) -> DeviceMesh:
    """Return the processes that have parts of the same sequences as this one; every process must ask."""
    degree = parallel.context_parallel_degree
    return init_device_mesh(device, (parallel.processes // degree, degree), mesh_dim_names=("others", NAME))[NAME]


def whole_causal_attention(
    module: nn.Module,
    query_BHSE: Tensor,
    key_BKSE: Tensor,
    value_BKSE: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Return causal attention of whole sequences, `[batch, sequence, heads, head width]`, and no weights.

    Positions do not tell it what a token sees, as they do in transformers' own, for which two pieces are two documents.
    """
    groups, device = query_BHSE.shape[1] // key_BKSE.shape[1], query_BHSE.device.type
    keys, values = (tensor.repeat_interleave(groups, dim=1) for tensor in (key_BKSE, value_BKSE))
    if torch.is_autocast_enabled(device):  # rotary positions give fp32
        dtype = torch.get_autocast_dtype(device)
        query_BHSE, keys, values = query_BHSE.to(dtype), keys.to(dtype), values.to(dtype)
    seen = F.scaled_dot_product_attention(query_BHSE, keys, values, is_causal=True, scale=scaling)
    return seen.transpose(1, 2).contiguous(), None


def _no_mask(*_: Any, **__: Any) -> None:
    return None
