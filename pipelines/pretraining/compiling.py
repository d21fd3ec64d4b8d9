"""How a run's model is compiled: by its blocks, which are alike, so the first one's kernels do for all."""

import os
from contextlib import suppress
from pathlib import Path

from torch import nn

from pipelines.models.parts import blocks, is_mixture
from pipelines.pretraining.compile_rule import compiling_pays
from pipelines.pretraining.settings import LoopConfig


def is_compiled(config: LoopConfig, model: nn.Module) -> bool:
    """Return whether a run of this model is compiled."""
    weights = sum(weight.numel() for weight in model.parameters())
    return compiling_pays(config, weights, mixture=is_mixture(model))


def compile_blocks(model: nn.Module) -> None:
    """Have the model's blocks compiled at their first use, and the kernels kept in `~/.cache/gristmill/inductor`.

    TORCHINDUCTOR_CACHE_DIR names another folder. The mask is made outside the blocks, where transformers can see that
    it needs none; within a compiled model it builds one of the square of the length.
    """
    with suppress(RuntimeError):  # a user without a home keeps torch's own folder
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path("~/.cache/gristmill/inductor").expanduser()))
    for block in blocks(model):
        block.compile()
