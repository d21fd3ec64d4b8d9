"""Draws among documents: a rank that a seed and a document's id fix, whatever the order they are read in."""

import hashlib

import numpy as np
from numpy.typing import NDArray

RANKS = 1 << 64


def rank(seed: int, *names: str) -> int:
    """Return a number below 2**64 that is even over names and the same in every process."""
    return int.from_bytes(hashlib.blake2b("\n".join((str(seed), *names)).encode(), digest_size=8).digest())


def lowest(ranks: NDArray[np.uint64], fraction: float) -> NDArray[np.bool_]:
    """Return which documents fall into the share `fraction`: of two or more at least one and not all, of one none."""
    if len(ranks) < 2:
        return np.zeros(len(ranks), np.bool_)
    chosen = np.asarray(ranks < np.uint64(min(int(fraction * RANKS), RANKS - 1)))
    order = np.argsort(ranks, kind="stable")
    chosen[order[0]], chosen[order[-1]] = True, False
    return chosen
