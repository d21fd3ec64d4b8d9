"""Loading a finished model from a folder, quantized or not, without chatter and without the network."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from pipelines.artifacts.errors import UserError

CHATTER = (
    "bitsandbytes.autograd._functions",
    "torch.utils._pytree",
    "torchao",
    "transformers.distributed.tensor_parallel",
    "transformers.modeling_utils",
)
"""Loggers that warn of absent kernels, and at every product in 8 bits; what matters of it is raised by `load_model`."""


PACKED_ROWS = 32
"""Rows of a 4-bit weight that bitsandbytes lays side by side on a CPU with bf16 products."""


def silence() -> None:
    """Let the chatter through from errors on, for good: switching it at every forward pass costs as much as one."""
    for name in CHATTER:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def no_bars() -> Iterator[None]:
    """Let transformers draw no progress bar until the block ends."""
    drawn = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if drawn:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def load_model(
    folder: Path,
    *,
    kind: Any = AutoModelForCausalLM,
    dtype: torch.dtype | Literal["auto"] = "auto",
    device: str = "cpu",
    quantization: BitsAndBytesConfig | None = None,
    heads: frozenset[str] = frozenset(),
    **config: Any,
) -> Any:
    """Return the model in `folder`, ready for inference; "auto" keeps the type it was saved in.

    Tensors that `heads` names may be absent, and are then drawn from torch's global generator, or left over: a new head
    in the place of another. Further keywords override the folder's config. Raises UserError where the other weights are
    not exactly those that the config asks for.
    """
    silence()
    with no_bars():
        loaded: Any = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=dtype,
            device_map=device,
            attn_implementation="sdpa",
            output_loading_info=True,
            **config,
            # given as None, it would override what the folder's own config says
            **({} if quantization is None else {"quantization_config": quantization}),
        )
    model, found = loaded
    for fault in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if wrong := set(map(str, found.get(fault, ()))) - heads:
            tensor = min(wrong)
            raise UserError(
                f"{folder}: {fault.replace('_', ' ')}, such as {tensor}; use config and weights of one model"
            )
    if getattr(model, "is_loaded_in_4bit", False):
        _leave_unpacked(model)
    return model.eval()


def _leave_unpacked(model: Any) -> None:
    """Have bitsandbytes leave alone the 4-bit weights that it cannot lay out anew.

    On a CPU with bf16 products it does so with every one before its first product, and fails where the rows are no
    multiple of 32 or the columns none of its blocks (bitsandbytes 0.50.2).
    """
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    for layer in model.modules():
        if isinstance(layer, Linear4bit) and isinstance(layer.weight, Params4bit):
            fits = layer.out_features % PACKED_ROWS == 0 and layer.in_features % layer.weight.blocksize == 0
            layer.support_avx512bf16_for_cpu = layer.support_avx512bf16_for_cpu and fits
