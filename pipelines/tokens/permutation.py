"""A pseudo-random order of n things that needs no memory: a keyed Feistel network, walked until it lands inside.

Cycle walking after Black and Rogaway, "Ciphers with arbitrary finite domains" (2002). The arithmetic is on integers of
64 bits, so that the order is the same on every machine and with every version of every library.
"""

MASK = (1 << 64) - 1
ROUNDS = 6


def permute(position: int, size: int, *, seed: int, epoch: int) -> int:
    """Return where `position` goes in the permutation of `range(size)` that the seed and the epoch name."""
    if not 0 <= position < size:
        raise IndexError(f"position {position:,} is outside a permutation of {size:,}")
    half = (max(size - 1, 1).bit_length() + 1) // 2
    key = mix(mix(seed & MASK) ^ epoch)
    while True:
        position = _feistel(position, half, key)
        if position < size:
            return position


def _feistel(value: int, half: int, key: int) -> int:
    """Return the image of `value` under a permutation of the numbers of `2 * half` bits."""
    low_bits = (1 << half) - 1
    left, right = value >> half, value & low_bits
    for number in range(ROUNDS):
        left, right = right, left ^ (mix(key + (number << 56) ^ right) & low_bits)
    return left << half | right


def mix(value: int) -> int:
    """Return the splitmix64 hash of `value` (Steele, Lea and Flood, 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31
