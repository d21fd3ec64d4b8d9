"""What this machine reaches at matrix products: the denominator of the model's share of peak FLOPs (MFU)."""

import statistics
import time
from itertools import pairwise

import torch

SIDES: dict[str, tuple[int, ...]] = {"cpu": (512, 1024), "cuda": (4096, 8192)}
"""Square products tried: the best of them counts, as caches and tiles favour one or the other."""
RUNS = 15
SECONDS = 1.0
"""When a machine without the type's products, which emulates them, is slow enough to be sure of."""


def matmul_peak(device: str, dtype: torch.dtype) -> float:
    """Return the floating-point operations a second of the best square product, the median of a few.

    Takes seconds at most. The denominator of MFU in Chowdhery et al., "PaLM" (2022), measured instead of taken from a
    data sheet.
    """
    return max(_rate(side, device, dtype) for side in SIDES[device])


def _rate(side: int, device: str, dtype: torch.dtype) -> float:
    left = torch.ones(side, side, device=device, dtype=dtype)
    ends = [_done(device)]
    while len(ends) <= RUNS and ends[-1] - ends[0] < SECONDS:
        left @ left
        ends.append(_done(device))
    seconds = [end - start for start, end in pairwise(ends)]
    return 2 * side**3 / statistics.median(seconds[1:] or seconds)  # the first one warms up


def _done(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
