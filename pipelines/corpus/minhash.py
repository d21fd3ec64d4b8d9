"""MinHash signatures and the bands that make similar ones meet (Broder 1997; Leskovec et al., chapter 3)."""

from collections.abc import Iterator

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray

from pipelines.artifacts.errors import UserError
from pipelines.corpus.ngrams import Hashes

Signatures = NDArray[np.uint32]

CHUNK = 1 << 12
"""Shingles permuted at once: 4,096 by 128 numbers of four bytes stay within a core's cache."""
_PRIME = 0x100000001B3


class Signer:
    """Makes signatures by datasketch, in which every permutation is a bijection of 32 bits."""

    def __init__(self, permutations: int, seed: int) -> None:
        self._minhash = MinHash(permutations, seed=seed, hashfunc=int, scheme="affine32")

    def sign(self, shingles: Hashes) -> Signatures:
        """Return the signature of a set of shingles."""
        self._minhash.clear()
        for start in range(0, len(shingles), CHUNK):
            # The high half: in a polynomial hash only it depends on every bit of the words.
            self._minhash.update_batch((shingles[start : start + CHUNK] >> np.uint64(32)).tolist())
        return np.array(self._minhash.hashvalues, np.uint32)


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


def buckets(
    signatures: Signatures, members: NDArray[np.int64], bands: int, rows: int
) -> Iterator[tuple[int, list[int]]]:
    """Yield, band by band, the band's number and those of `members` that are equal in it, in the order given."""
    for band in range(bands):
        keys = np.zeros(len(members), np.uint64)
        for column in range(band * rows, (band + 1) * rows):
            keys = (keys ^ signatures[members, column]) * np.uint64(_PRIME)
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]]))
        ends = np.append(starts[1:], len(order))
        shared = ends - starts > 1
        for start, end in zip(starts[shared], ends[shared], strict=True):
            yield band, members[order[start:end]].tolist()
