"""Whether a step is fit to change the weights: finite, and not far above the steps before it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from pipelines.artifacts.curve import Row
from pipelines.pretraining.settings import SpikeConfig

WATCHED = ("loss", "grad_norm")
SMALLEST_SHARE = 1e-6
"""Least deviation, as a share of the mean: a run that stands still has none, and rounding is no spike."""


@dataclass(frozen=True)
class Fault:
    """Why a step stands out, and the window that it was judged by."""

    kind: Literal["non-finite", "spike"]
    figures: Row
    """Loss and gradient length."""
    window: Row
    """Mean and deviation of each, and how many steps they are of."""


def find_fault(figures: Row, curve: Sequence[Row], config: SpikeConfig) -> Fault | None:
    """Return what is wrong with a step, judged by the steps that were taken before it; None where nothing is.

    A spike is a loss or gradient length more than `sigmas` standard deviations above the mean of the window; lower ones
    are none. The curve holds finite steps only.
    """
    window = list(islice((row for row in reversed(curve) if "loss" in row), config.window))
    facts: Row = {"steps": len(window)}
    standing_out = False
    for name in WATCHED if window else ():
        values = [row[name] for row in window]
        mean = math.fsum(values) / len(values)
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        deviation = max(spread, SMALLEST_SHARE * abs(mean))
        facts |= {f"{name}_mean": mean, f"{name}_deviation": deviation}
        standing_out |= figures[name] > mean + config.sigmas * deviation
    if not all(math.isfinite(figures[name]) for name in WATCHED):
        return Fault("non-finite", figures, facts)
    if standing_out and len(window) == config.window:
        return Fault("spike", figures, facts)
    return None
