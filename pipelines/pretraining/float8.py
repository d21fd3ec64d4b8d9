"""Matrix products of the blocks in 8-bit floating point, for GPUs that have them (Micikevicius et al., 2022).

Each operand is scaled by its largest entry just before the product: activations and weights to e4m3, which is precise,
gradients to e5m2, which is wide. Weights, sums and everything outside the blocks' matrices keep their types.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.artifacts.errors import UserError
from pipelines.models.parts import blocks

PRECISE, WIDE = torch.float8_e4m3fn, torch.float8_e5m2
MULTIPLE = 16
"""What both sides of an operand must divide by for the hardware's product."""
CAPABILITY = (8, 9)
"""NVIDIA's first devices with fp8 products: Ada, then Hopper."""


def check_float8(device: str) -> None:
    """Raise UserError where the device has no fp8 products."""
    if device != "cuda":
        raise UserError(f"dtype: 'fp8' needs a GPU and the device is {device!r}; set dtype to 'bf16' or 'fp32'")
    if torch.cuda.get_device_capability() < CAPABILITY:
        name = torch.cuda.get_device_name()
        raise UserError(f"dtype: 'fp8' needs an Ada or Hopper GPU and this is {name}; set dtype to 'bf16'")


def use_float8(model: nn.Module) -> int:
    """Let the linear layers of the blocks compute in fp8, where their sides allow it, and return how many do.

    The weights stay the same parameters under the same names.
    """
    changed = 0
    for module in (inner for block in blocks(model) for inner in block.modules()):
        fits = type(module) is nn.Linear and not (module.in_features % MULTIPLE or module.out_features % MULTIPLE)
        if fits and module.bias is None:
            module.__class__ = Float8Linear
            changed += 1
    return changed


class Float8Linear(nn.Linear):
    """A linear layer without bias; rows that are no multiple of 16 are computed in bf16."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input @ weight.T` in bf16."""
        rows = input.reshape(-1, self.in_features).to(torch.bfloat16)
        if len(rows) % MULTIPLE:
            return F.linear(input.to(torch.bfloat16), self.weight.to(torch.bfloat16))
        product: Tensor = _Float8Product.apply(rows, self.weight.to(torch.bfloat16))  # type: ignore[no-untyped-call]
        return product.view(*input.shape[:-1], self.out_features)


class _Float8Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_NI: Tensor, weight_OI: Tensor) -> Tensor:
        rows, rows_scale = _quantized(rows_NI, PRECISE)
        weight, weight_scale = _quantized(weight_OI, PRECISE)
        ctx.save_for_backward(rows, rows_scale, weight, weight_scale)
        return _product(rows, weight.t(), rows_scale, weight_scale)

    @staticmethod
    def backward(ctx: Any, grad_NO: Tensor) -> tuple[Tensor, Tensor]:
        rows, rows_scale, weight, weight_scale = ctx.saved_tensors
        grad, grad_scale = _quantized(grad_NO, WIDE)
        grad_rows = _product(grad, _by_columns(weight), grad_scale, weight_scale)
        grad_weight = _product(grad.t().contiguous(), _by_columns(rows), grad_scale, rows_scale)
        return grad_rows, grad_weight


def _quantized(values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the values over a scale that makes the largest just fit, and that scale."""
    largest = torch.finfo(dtype).max
    scale = values.abs().amax().float().clamp(min=1e-12) / largest
    return (values.float() / scale).clamp(-largest, largest).to(dtype), scale


def _by_columns(matrix: Tensor) -> Tensor:
    """Return the matrix laid out by columns, as the product takes its second operand."""
    return matrix.t().contiguous().t()


def _product(left: Tensor, right: Tensor, left_scale: Tensor, right_scale: Tensor) -> Tensor:
    whole = F.ScalingType.TensorWise
    return F.scaled_mm(left, right, left_scale, whole, right_scale, whole, output_dtype=torch.bfloat16)
