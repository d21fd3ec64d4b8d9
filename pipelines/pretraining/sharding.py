"""Tensors of which each process holds some rows (FSDP2), beside plain ones that all hold whole."""

from typing import TypeGuard

from torch import Tensor
from torch.distributed.tensor import DTensor


def whole(tensor: Tensor) -> Tensor:
    """Return all rows; every process must ask, as each gives its own."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def held(tensor: Tensor) -> Tensor:
    """Return the rows that this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def is_cut(tensor: Tensor) -> TypeGuard[DTensor]:
    """Return whether each process holds rows of its own."""
    return isinstance(tensor, DTensor)


def first_row(tensor: DTensor) -> int:
    """Return where this process's rows begin: as `torch.chunk` cuts, all parts but the last ones are equal."""
    share = -(-tensor.shape[0] // tensor.device_mesh.size())
    return min(tensor.device_mesh.get_local_rank() * share, tensor.shape[0])


def placed(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor on `like`'s device, cut as `like` is where both have one shape; nobody is asked."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor.to(like.device)
    start, count = first_row(like), like.to_local().shape[0]
    rows = tensor[start : start + count].to(like.device, copy=True).contiguous()
    return DTensor.from_local(
        rows, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )
