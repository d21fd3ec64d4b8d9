"""Tensors of which each process holds a part (FSDP2, tensor parallel), beside plain ones that it holds whole."""

from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset  # as torch's own checkpoints do


def whole(tensor: Tensor) -> Tensor:
    """Return all parts together; every process that holds one must ask, as each gives its own."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def held(tensor: Tensor) -> Tensor:
    """Return the part that this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def cut_dimensions(tensor: Tensor) -> set[str]:
    """Return the dimensions of the mesh along which a tensor is cut: the others hold copies of each part."""
    if not isinstance(tensor, DTensor):
        return set()
    names = tensor.device_mesh.mesh_dim_names or ()
    return {name for name, how in zip(names, tensor.placements, strict=True) if not how.is_replicate()}


def offset(tensor: Tensor) -> tuple[int, ...]:
    """Return where this process's part begins in each of the tensor's dimensions."""
    return _part(tensor)[1] if isinstance(tensor, DTensor) else (0,) * tensor.ndim


def placed(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor on `like`'s device, cut as `like` is where both have one shape; nobody is asked."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor.to(held(like).device)
    part = tensor
    for dimension, (count, start) in enumerate(zip(*_part(like), strict=True)):
        part = part.narrow(dimension, start, count)
    part = part.to(held(like).device, copy=True).contiguous()
    return DTensor.from_local(
        part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def _part(tensor: DTensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape of this process's part and where it begins."""
    shape, start = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return tuple(shape), tuple(min(at, size) for at, size in zip(start, tensor.shape, strict=True))
