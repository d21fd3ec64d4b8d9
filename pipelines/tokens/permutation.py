"""A pseudo-random order of n things that needs no memory: a keyed Feistel network, walked until it lands inside.

Cycle walking after Black and Rogaway, "Ciphers with arbitrary finite domains" (2002). The arithmetic is on integers of
64 bits, so that the order is the same on every machine and with every version of every library.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]
Words: TypeAlias = NDArray[np.uint64]

MASK = (1 << 64) - 1
ROUNDS = 6


def drawn(numbers: Integers, size: int, *, seed: int) -> Integers:
    """Return which of `size` things each global number stands for: in every epoch each once, in an order of its own."""
    epochs, places = np.divmod(numbers, size)
    return permute(places, size, seed=seed, epochs=epochs)


def permute(places: Integers, size: int, *, seed: int, epochs: Integers, inverse: bool = False) -> Integers:
    """Return where each place goes, or comes from, in the permutation of `range(size)` that seed and epoch name."""
    if len(places) and not 0 <= places.min() <= places.max() < size:
        raise IndexError(f"positions {places.min():,} to {places.max():,} are not in a permutation of {size:,}")
    half = (max(size - 1, 1).bit_length() + 1) // 2
    keys = mix(mix(np.array([seed & MASK], np.uint64)) ^ epochs.astype(np.uint64))
    values = _feistel(places.astype(np.uint64), half, keys, inverse)
    while len(outside := np.flatnonzero(values >= size)):
        values[outside] = _feistel(values[outside], half, keys[outside], inverse)
    return values.astype(np.int64)


def _feistel(values: Words, half: int, keys: Words, inverse: bool) -> Words:
    """Return the images, or the originals, of `values` under permutations of the numbers of `2 * half` bits."""
    bits, low = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> bits, values & low
    for number in range(ROUNDS)[:: -1 if inverse else 1]:
        key = keys + np.uint64(number << 56)
        if inverse:
            left, right = right ^ (mix(key ^ left) & low), left
        else:
            left, right = right, left ^ (mix(key ^ right) & low)
    return left << bits | right


def mix(values: Words) -> Words:
    """Return the splitmix64 hashes of `values` (Steele, Lea and Flood, 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)
