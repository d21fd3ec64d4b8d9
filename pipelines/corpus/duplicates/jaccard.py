"""Exact Jaccard similarity of shingle sets, and union-find over the pairs that reach the threshold."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.corpus.compiled import compiled
from pipelines.corpus.duplicates.minhash import Keys
from pipelines.corpus.ngrams import Hashes

Places = NDArray[np.int64]


class Sets(NamedTuple):
    """The sorted shingle sets of all documents, one after the other, mapped from a file."""

    shingles: Hashes
    ends: Places
    sizes: Places


class Forest(NamedTuple):
    """Clusters as trees of verified pairs."""

    parents: Places
    """Union-find: the document towards the one that names the cluster."""
    pairs: Places
    """The pairs that joined two clusters, a row each; at most one fewer than documents."""
    similarities: NDArray[np.float64]
    counts: Places
    """How many pairs joined, how many met, and how many of those were compared."""


JOINED, MET, COMPARED = range(3)


def forest_of(count: int) -> Forest:
    """Return a forest in which every document stands alone."""
    return Forest(np.arange(count), np.empty((count, 2), np.int64), np.empty(count), np.zeros(3, np.int64))


@compiled
def root_of(parents: Places, document: int) -> int:
    """Return the document that names the cluster."""
    while parents[document] != document:
        parents[document] = parents[parents[document]]
        document = parents[document]
    return document


@compiled
def similarity_of(sets: Sets, one: int, other: int, threshold: float) -> float:
    """Return the Jaccard similarity of two sets that are not empty, or -1 as soon as it must be below the threshold."""
    size, other_size = sets.sizes[one], sets.sizes[other]
    needed = least_common(size, other_size, threshold)
    at, end = sets.ends[one] - size, sets.ends[one]
    other_at, other_end = sets.ends[other] - other_size, sets.ends[other]
    common = 0
    while at < end and other_at < other_end:
        if common + min(end - at, other_end - other_at) < needed:
            return -1.0
        left, right = sets.shingles[at], sets.shingles[other_at]
        common += left == right
        at += left <= right
        other_at += right <= left
    similarity = common / (size + other_size - common)
    return similarity if similarity >= threshold else -1.0


@compiled
def least_common(size: int, other_size: int, threshold: float) -> int:
    """Return how many shingles two sets of these sizes must share to reach the threshold."""
    both = size + other_size
    common = int(threshold * both / (1 + threshold))
    while common > 0 and common / (both - common) >= threshold:
        common -= 1
    while common / (both - common) < threshold:
        common += 1
    return common


@compiled
def compare(forest: Forest, sets: Sets, one: int, other: int, threshold: float) -> bool:
    """Compare two documents of different clusters and join these where the threshold is reached."""
    forest.counts[MET] += 1
    size, other_size = sets.sizes[one], sets.sizes[other]
    if min(size, other_size) / max(size, other_size) < threshold:
        return False  # sets of such sizes cannot reach the threshold, whatever they hold
    forest.counts[COMPARED] += 1
    similarity = similarity_of(sets, one, other, threshold)
    if similarity < 0:
        return False
    number = forest.counts[JOINED]
    forest.pairs[number, 0], forest.pairs[number, 1] = one, other
    forest.similarities[number] = similarity
    forest.counts[JOINED] += 1
    forest.parents[root_of(forest.parents, other)] = root_of(forest.parents, one)
    return True


@compiled
def link_small(
    documents: Places, starts: Places, most: int, band: int, forest: Forest, sets: Sets, keys: Keys, threshold: float
) -> None:
    """Compare all pairs in buckets of at most `most` documents, but those linked already or met in an earlier band."""
    for bucket in range(len(starts) - 1):
        first, end = starts[bucket], starts[bucket + 1]
        if end - first > most:
            continue
        for place in range(first + 1, end):
            document = documents[place]
            for other_place in range(first, place):
                other = documents[other_place]
                if root_of(forest.parents, document) == root_of(forest.parents, other):
                    continue
                met = False
                for earlier in range(band):
                    if keys[document, earlier] == keys[other, earlier]:
                        met = True
                        break
                if not met:
                    compare(forest, sets, other, document, threshold)
