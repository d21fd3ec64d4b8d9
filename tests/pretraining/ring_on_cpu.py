"""torch's ring attention with the fused attention kernel of CPUs in the place of a GPU's, for tests alone.

torch knows how to add up the pieces of any such kernel and has the list of a GPU's; all else of it runs as on GPUs.
"""

from typing import Any

import torch
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.experimental._context_parallel import _attention as ring

aten = torch.ops.aten
FORWARD = aten._scaled_dot_product_flash_attention_for_cpu.default
BACKWARD = aten._scaled_dot_product_flash_attention_for_cpu_backward.default
TENSORS = ("query", "key", "value")
FIELDS = {
    FORWARD: (*TENSORS, "dropout_p", "is_causal"),
    BACKWARD: ("grad_out", *TENSORS, "out", "logsumexp", "dropout_p", "is_causal"),
}


def allow() -> None:
    """Let context parallelism compute on CPUs in this process."""
    ring.custom_ops.update(dict.fromkeys(FIELDS, _around))


def _around(op: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[DTensor, ...]:
    given = {**dict(zip(FIELDS[op], arguments, strict=False)), **named}
    mesh = given["query"].device_mesh
    own = {name: held.to_local() if isinstance(held, DTensor) else held for name, held in given.items()}
    group = mesh.get_group()
    if op is BACKWARD:
        parts = ring._templated_ring_attention_backward(
            group, 2, lambda **inputs: op(**inputs), grad_out_name="grad_out", **own
        )
    else:
        parts = ring._templated_ring_attention(group, 2, op, **own)
    return tuple(DTensor.from_local(part, mesh, [Shard(2)], run_check=False) for part in parts)
