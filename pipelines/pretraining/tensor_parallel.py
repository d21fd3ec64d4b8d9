"""Blocks and vocabulary cut over neighbouring processes: each has some heads, feed-forward columns and token vectors.

As in Shoeybi et al., "Megatron-LM" (2019): a block's first matrices are cut by columns and its last ones by rows, so
two sums over the processes are all that a block's forward pass needs. Norms are whole in each.
"""

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    parallelize_module,
)
from torch.distributed.tensor.placement_types import Placement

from pipelines.artifacts.errors import UserError

DEGREE = "pretrain.parallel.tensor_parallel_degree"


class Whole(ParallelStyle):
    """A module that every process has whole and computes on the same input."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        return distribute_module(
            module,
            device_mesh,
            input_fn=_as_copies,  # type: ignore[arg-type]  # declared to return nothing, used for what it returns
            output_fn=_as_plain,  # type: ignore[arg-type]
        )


class OfHeads(ParallelStyle):
    """A module that sees each head by itself, `[batch, sequence, heads, width]`, of which a process has some."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        return distribute_module(
            module,
            device_mesh,
            input_fn=_as_heads,  # type: ignore[arg-type]
            output_fn=_as_plain,  # type: ignore[arg-type]
        )


BLOCK: dict[str, ParallelStyle] = {
    "input_layernorm": Whole(),
    "self_attn": PrepareModuleInput(
        input_kwarg_layouts={"hidden_states": Replicate()}, desired_input_kwarg_layouts={"hidden_states": Replicate()}
    ),
    "self_attn.q_proj": ColwiseParallel(),
    "self_attn.k_proj": ColwiseParallel(),
    "self_attn.v_proj": ColwiseParallel(),
    "self_attn.q_norm": OfHeads(),
    "self_attn.k_norm": OfHeads(),
    "self_attn.o_proj": RowwiseParallel(),
    "post_attention_layernorm": Whole(),
    "mlp": PrepareModuleInput(input_layouts=(Replicate(),), desired_input_layouts=(Replicate(),)),
    "mlp.gate_proj": ColwiseParallel(),
    "mlp.up_proj": ColwiseParallel(),
    "mlp.down_proj": RowwiseParallel(),
}


def cut_tensors(model: nn.Module, mesh: DeviceMesh) -> None:
    """Cut a model's weights over a mesh of one dimension; raise UserError for blocks that are not like Llama's."""
    trunk, head = model.get_submodule("model"), model.get_submodule("lm_head")
    table = trunk.get_submodule("embed_tokens")
    tied = getattr(table, "weight", None) is getattr(head, "weight", None)
    for block in trunk.get_submodule("layers").children():
        parallelize_module(block, mesh, {name: how for name, how in BLOCK.items() if _has(block, name)})
    if _has(trunk, "norm.weight"):
        parallelize_module(trunk.get_submodule("norm"), mesh, Whole())
    if isinstance(table, nn.Embedding):
        table.padding_idx = None  # a number of the whole table; no target sees a padded input, so its gradient is zero
        parallelize_module(table, mesh, RowwiseParallel(input_layouts=Replicate()))
    elif _has(table, "weight"):
        _cut_rows(table, mesh)
    if tied and _has(head, "weight"):
        head.weight = table.get_parameter("weight")
    elif _has(head, "weight"):
        _cut_rows(head, mesh)
    for name, weight in model.named_parameters():
        if not isinstance(weight, DTensor):
            raise UserError(f"{DEGREE}: {mesh.size()}, and {name} is of no block like Llama's; set it to 1")
        weight.register_hook(partial(_as_cut, weight.placements))  # type: ignore[no-untyped-call]


def _cut_rows(module: nn.Module, mesh: DeviceMesh) -> None:
    weight = distribute_tensor(module.get_parameter("weight").detach(), mesh, [Shard(0)], src_data_rank=None)
    module.register_parameter("weight", nn.Parameter(weight))


def _as_cut(placements: tuple[Placement, ...], gradient: DTensor) -> DTensor:
    """Return a gradient cut as its weight is: that of looked-up vectors and of heads' norms comes in summands."""
    return gradient.redistribute(placements=placements)


def _has(module: nn.Module, name: str) -> bool:
    """Return whether a module has a part or weight of this dotted name."""
    inner: Any = module
    for word in name.split("."):
        inner = getattr(inner, word, None)
    return inner is not None


def _as_copies(module: nn.Module, inputs: tuple[Tensor, ...], mesh: DeviceMesh) -> DTensor:
    return DTensor.from_local(inputs[0], mesh, [Replicate()], run_check=False)


def _as_heads(module: nn.Module, inputs: tuple[Tensor, ...], mesh: DeviceMesh) -> DTensor:
    return DTensor.from_local(inputs[0], mesh, [Shard(2)], run_check=False)


def _as_plain(module: nn.Module, outputs: DTensor, mesh: DeviceMesh) -> Tensor:
    return outputs.to_local()
