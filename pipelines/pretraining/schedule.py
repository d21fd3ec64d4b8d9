"""The learning rate of a step: warmup, then stable and linear decay (wsd), or a cosine."""

import math

from pipelines.pretraining.settings import LoopConfig


def lr_scale(config: LoopConfig, step: int) -> float:
    """Return the share of the highest learning rate that step `step`, counted from 0, takes.

    The decay reaches `min_lr_ratio` where step `max_steps` would be, so that no step is spent at nothing. Where a
    short run has no room for both, the lower of warmup and decay counts. wsd: Hu et al., "MiniCPM" (2024).
    """
    risen = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    span = config.decay_steps if config.schedule == "wsd" else config.max_steps - config.warmup_steps
    left = min(1.0, (config.max_steps - step) / span) if span > 0 else 1.0
    if config.schedule == "cosine":
        left = 0.5 * (1 - math.cos(math.pi * left))
    return min(risen, config.min_lr_ratio + (1 - config.min_lr_ratio) * left)
