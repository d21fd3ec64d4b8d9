"""Whether a run is compiled, by its config and the number of its weights alone, without torch."""

from pipelines.pretraining.settings import LoopConfig

COMPILE_SECONDS = 120.0
"""A cold compile with all its parts on two cores, at the upper end of what was seen."""
EAGER_FLOPS = 1e11
"""Operations a second of an eager step on two cores."""
SAVED = 0.1
"""Share of an eager step that compiling saves at least."""


def compiling_pays(config: LoopConfig, weights: int, *, mixture: bool) -> bool:
    """Return what the config says, where it says `auto` whether the time saved is longer than a cold compile.

    Compiled kernels round otherwise, so this looks at the config and the model alone: no clock, device or cache. The
    routing that the loss of a mixture of experts reads does not come out of compiled blocks.
    """
    if config.compile != "auto":
        return config.compile == "always"
    if mixture:
        return False
    tokens = config.max_steps * config.global_batch * config.sequence_length
    return 6 * weights * tokens / EAGER_FLOPS * SAVED > COMPILE_SECONDS
