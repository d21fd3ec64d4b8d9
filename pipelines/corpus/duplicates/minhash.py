"""MinHash bands that make similar documents meet (Broder 1997; Leskovec et al., chapter 3)."""

import numpy as np
from numpy.typing import NDArray

from pipelines.artifacts.errors import UserError
from pipelines.corpus.compiled import compiled
from pipelines.corpus.ngrams import MULTIPLIER, Hashes

Keys = NDArray[np.uint64]
"""A row a document, a column a band: documents of equal keys meet there."""
Numbers = NDArray[np.uint32]


def choose_bands(threshold: float, permutations: int, recall: float) -> tuple[int, int]:
    """Return how many bands of how many rows: the most rows with which a pair at the threshold meets often enough.

    More rows make fewer pairs meet that are unlike. Raises UserError when even one row a band is too many.
    """
    for rows in range(permutations, 0, -1):
        bands = permutations // rows
        if meeting_chance(threshold, bands, rows) >= recall:
            return bands, rows
    raise UserError(
        f"dedup.permutations: {permutations} are too few for a candidate_recall of {recall} at threshold {threshold}; "
        "give more permutations"
    )


def meeting_chance(similarity: float, bands: int, rows: int) -> float:
    """Return the probability that two documents of this similarity are equal in at least one band."""
    return 1 - float((1 - similarity**rows) ** bands)


def permutations_of(seed: int, count: int) -> tuple[Numbers, Numbers]:
    """Return factors and terms of `count` permutations x → ax + b of the 32-bit numbers; a is odd, so none collide."""
    start = np.uint64(seed * MULTIPLIER % (1 << 64))
    mixed = _splitmix(start + np.arange(1, 2 * count + 1, dtype=np.uint64))
    numbers = (mixed >> np.uint64(32)).astype(np.uint32)
    return numbers[:count] | np.uint32(1), numbers[count:]


def _splitmix(numbers: Keys) -> Keys:
    """Return well mixed numbers (Steele, Lea and Flood 2014)."""
    total = numbers * np.uint64(MULTIPLIER)
    total = (total ^ (total >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    total = (total ^ (total >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return total ^ (total >> np.uint64(31))


@compiled
def band_keys(
    shingles: Hashes, sizes: NDArray[np.int64], factors: Numbers, terms: Numbers, rows: int, out: Keys
) -> None:
    """Write to `out` the key of every band of every document, whose shingles lie one after the other."""
    bands = out.shape[1]
    lowest = np.empty(bands * rows, np.uint32)
    start = 0
    for document in range(len(sizes)):
        lowest[:] = 0xFFFFFFFF
        for place in range(start, start + sizes[document]):
            # The high half: in a polynomial hash only it depends on every bit of the words.
            number = np.uint32(shingles[place] >> np.uint64(32))
            for row in range(bands * rows):
                permuted = np.uint32(factors[row] * number + terms[row])
                lowest[row] = min(lowest[row], permuted)
        start += sizes[document]
        for band in range(bands):
            key = np.uint64(band + 1)
            for row in range(band * rows, (band + 1) * rows):
                key = (key ^ np.uint64(lowest[row])) * np.uint64(MULTIPLIER)
                key = key ^ (key >> np.uint64(29))
            out[document, band] = key
