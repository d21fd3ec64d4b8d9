"""Mixtures of which each shard has some experts: tokens go to them, and what they make of them comes back.

Every process gathers the tokens of its neighbours, computes those that its own experts are chosen for, and the sums
go back to where the tokens came from. So an expert's gradient is whole where the expert is, and never travels.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Shard, distribute_tensor

from pipelines.models.parts import blocks
from pipelines.pretraining.sharding import held

NAME = "experts"


def deal_out_experts(model: nn.Module, mesh: DeviceMesh) -> set[nn.Parameter]:
    """Leave in each block the experts of this process, equally many in each, and return their weights."""
    dealt: set[nn.Parameter] = set()
    for block in blocks(model):
        for name, module in block.named_modules():
            if name.rpartition(".")[2] == NAME:
                dealt |= _dealt(module, mesh)
    return dealt


def _dealt(module: Any, mesh: DeviceMesh) -> set[nn.Parameter]:
    for name, weight in list(module.named_parameters()):
        part = distribute_tensor(weight.detach(), mesh, [Shard(0)], src_data_rank=None)
        module.register_parameter(name, nn.Parameter(part))
    module.num_experts //= mesh.size()
    module._is_expert_parallel = True  # transformers passes over tokens whose expert is `num_experts` then
    kind = type(module)
    module.__class__ = type(kind.__name__, (_OwnExperts, kind), {"mesh": mesh})
    return set(module.parameters())


class _OwnExperts(nn.Module):
    """The experts of one process, called with its own tokens as if it had them all."""

    mesh: DeviceMesh
    num_experts: int

    def forward(self, hidden_NE: Tensor, chosen_NK: Tensor, weights_NK: Tensor) -> Tensor:
        """Return for each token the weighed sum of what its chosen experts make of it."""
        group = self.mesh.get_group()
        own_NK = _gathered(chosen_NK, group) - self.mesh.get_local_rank() * self.num_experts
        elsewhere_NK = (own_NK < 0) | (own_NK >= self.num_experts)
        own_NK = own_NK.masked_fill(elsewhere_NK, self.num_experts)
        all_weights_NK = _Gathered.apply(weights_NK, group).masked_fill(elsewhere_NK, 0.0)  # type: ignore[no-untyped-call]
        hidden_NE = _Gathered.apply(hidden_NE, group)  # type: ignore[no-untyped-call]
        parts = {name: held(weight) for name, weight in self.named_parameters()}
        vars(self).update(parts)  # for this call they hide the parameters, which are of all experts
        try:
            made_NE = super().forward(hidden_NE, own_NK, all_weights_NK)
        finally:
            for name in parts:
                del vars(self)[name]
        back: Tensor = _Returned.apply(made_NE, group)  # type: ignore[no-untyped-call]
        return back


def _gathered(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Return the rows of all processes, one process's below the other's."""
    rows = tensor.new_empty(group.size() * len(tensor), *tensor.shape[1:])
    dist.all_gather_into_tensor(rows, tensor.contiguous(), group)
    return rows


def _returned(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Return the sum over all processes of what they have for this one's rows."""
    rows = tensor.new_empty(len(tensor) // group.size(), *tensor.shape[1:])
    dist.reduce_scatter_tensor(rows, tensor.contiguous(), group=group)
    return rows


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return _gathered(tensor, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _returned(gradient, ctx.group), None


class _Returned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return _returned(tensor, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _gathered(gradient, ctx.group), None
