"""Whether a run's model is compiled, and how: by its blocks, which are alike, so the first one's kernels do for all."""

import os
from contextlib import suppress
from pathlib import Path

from torch import nn

from pipelines.models.parts import blocks, is_mixture
from pipelines.pretraining.settings import LoopConfig

COMPILE_SECONDS = 120.0
"""A cold compile with all its parts on two cores, at the upper end of what was seen."""
EAGER_FLOPS = 1e11
"""Operations a second of an eager step on two cores."""
SAVED = 0.1
"""Share of an eager step that compiling saves at least."""


def is_compiled(config: LoopConfig, model: nn.Module) -> bool:
    """Return what the config says, where it says `auto` whether the time saved is longer than a cold compile.

    Compiled kernels round otherwise, so this looks at the config and the model alone: no clock, device or cache.
    """
    if config.compile != "auto":
        return config.compile == "always"
    if is_mixture(model):  # the routing that its loss reads does not come out of compiled blocks
        return False
    tokens = config.max_steps * config.global_batch * config.sequence_length
    operations = 6 * sum(weight.numel() for weight in model.parameters()) * tokens
    return operations / EAGER_FLOPS * SAVED > COMPILE_SECONDS


def compile_blocks(model: nn.Module) -> None:
    """Have the model's blocks compiled at their first use, and the kernels kept in `~/.cache/gristmill/inductor`.

    TORCHINDUCTOR_CACHE_DIR names another folder. The mask is made outside the blocks, where transformers can see that
    it needs none; within a compiled model it builds one of the square of the length.
    """
    with suppress(RuntimeError):  # a user without a home keeps torch's own folder
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path("~/.cache/gristmill/inductor").expanduser()))
    for block in blocks(model):
        block.compile()
