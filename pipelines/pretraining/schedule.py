"""The learning rate of a step, as a share of the highest: a warmup, then one of several ways down."""

import math
from collections.abc import Callable

from pipelines.pretraining.settings import LoopConfig

ONE_CYCLE_START = 1 / 25
"""Where one-cycle begins, as a share of the highest rate: torch's `div_factor`."""


def lr_scale(config: LoopConfig, step: int) -> float:
    """Return the share of the highest learning rate that step `step`, counted from 0, takes.

    The decay reaches `min_lr_ratio` where step `max_steps` would be, so that no step is spent at nothing. Where a
    short run has no room for both, the lower of warmup and decay counts.
    """
    if config.schedule == "one_cycle":
        return _one_cycle(config, step)
    risen = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    share = WAYS_DOWN[config.schedule](config, step)
    return min(risen, config.min_lr_ratio + (1 - config.min_lr_ratio) * share)


def _left(config: LoopConfig, step: int, span: int) -> float:
    """Return the share of the last `span` steps that is left."""
    return min(1.0, (config.max_steps - step) / span) if span > 0 else 1.0


def _wsd(config: LoopConfig, step: int) -> float:
    """Warmup-stable-decay: Hu et al., "MiniCPM" (2024)."""
    return _left(config, step, config.decay_steps)


def _linear(config: LoopConfig, step: int) -> float:
    return _left(config, step, config.max_steps - config.warmup_steps)


def _cosine(config: LoopConfig, step: int) -> float:
    """Loshchilov and Hutter, "SGDR" (2017), without restarts."""
    return 0.5 * (1 - math.cos(math.pi * _linear(config, step)))


def _polynomial(config: LoopConfig, step: int) -> float:
    return float(_linear(config, step) ** config.decay_power)


def _inverse_sqrt(config: LoopConfig, step: int) -> float:
    """Vaswani et al., "Attention is all you need" (2017), scaled to 1 at the end of the warmup; it knows no end."""
    return min(1.0, math.sqrt(max(config.warmup_steps, 1) / (step + 1)))


def _one_cycle(config: LoopConfig, step: int) -> float:
    """Smith and Topin, "Super-convergence" (2018), with cosines both ways as torch's OneCycleLR has by default.

    The rise takes the warmup; the last step takes `min_lr_ratio`.
    """
    top = max(config.warmup_steps - 1, 0)
    if step <= top:
        return _eased(ONE_CYCLE_START, 1.0, step / top if top else 1.0)
    return _eased(1.0, config.min_lr_ratio, (step - top) / max(config.max_steps - 1 - top, 1))


def _eased(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


WAYS_DOWN: dict[str, Callable[[LoopConfig, int], float]] = {
    "wsd": _wsd,
    "linear": _linear,
    "cosine": _cosine,
    "polynomial": _polynomial,
    "inverse_sqrt": _inverse_sqrt,
}
