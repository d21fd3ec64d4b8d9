"""Buckets of many documents, joined exactly in time that grows with their documents and not with their pairs.

Documents of one cluster are found by a few leaders. What is left goes through prefix filtering (Chaudhuri, Ganti and
Kaushik 2006; the shorter prefix of the smaller set is that of Xiao et al. 2008): two sets at the threshold share one
of their rarest shingles, and letters of one form with other facts in them share none of these.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.corpus.compiled import compiled
from pipelines.corpus.duplicates.jaccard import Forest, Places, Sets, compare, root_of
from pipelines.corpus.ngrams import Hashes

HOT = 64
"""Documents from which a bucket is joined here; below it, all pairs are fewer steps than sorting."""
LEADERS = 8
SLOTS = 1 << 22
"""Counters of shingles by their low bits. Two shingles that share one are ordered less well, never wrongly."""
SLACK = 1e-6


class HotBuckets:
    """Joins large buckets and remembers which documents were joined with each other already."""

    def __init__(self, count: int, forest: Forest, sets: Sets, threshold: float) -> None:
        self.forest, self.sets, self.threshold = forest, sets, threshold
        self._joined_in = np.zeros(count, np.int64)
        self._joins = 0

    def join(self, members: Places) -> None:
        """Link the documents of a bucket, best first, that are near-duplicates."""
        last = self._joined_in[members]
        if last[0] and (last == last[0]).all():
            return
        _follow_leaders(members, self.forest, self.sets, self.threshold)
        roots = np.empty(len(members), np.int64)
        _roots(self.forest.parents, members, roots)
        if (roots == roots[0]).all():
            return
        by_size = members[np.argsort(self.sets.sizes[members], kind="stable")]
        counters = np.zeros(SLOTS, np.uint32)
        _count(by_size, self.sets, counters)
        room = int(np.sum(self.sets.sizes[by_size] - np.ceil(self.threshold * self.sets.sizes[by_size] - SLACK) + 1))
        shingles, places, short = np.empty(room, np.uint64), np.empty(room, np.int64), np.empty(room, np.bool_)
        found = _prefixes(by_size, self.sets, counters, self.threshold, shingles, places, short)
        order = np.argsort(shingles[:found], kind="stable")
        _join_lists(shingles[order], by_size[places[order]], short[order], self.forest, self.sets, self.threshold)
        self._joins += 1
        self._joined_in[members] = self._joins


@compiled
def _follow_leaders(members: Places, forest: Forest, sets: Sets, threshold: float) -> None:
    """Compare each document with a few that lead clusters; one that follows none leads too while there is room."""
    leaders = np.empty(LEADERS, np.int64)
    count = 0
    for document in members:
        follows = False
        for number in range(count):
            leader = leaders[number]
            linked = root_of(forest.parents, leader) == root_of(forest.parents, document)
            follows |= linked or compare(forest, sets, leader, document, threshold)
        if not follows and count < LEADERS:
            leaders[count] = document
            count += 1


@compiled
def _roots(parents: Places, members: Places, out: Places) -> None:
    for number in range(len(members)):
        out[number] = root_of(parents, members[number])


@compiled
def _count(members: Places, sets: Sets, counters: NDArray[np.uint32]) -> None:
    for document in members:
        for place in range(sets.ends[document] - sets.sizes[document], sets.ends[document]):
            counters[np.int64(sets.shingles[place] & np.uint64(SLOTS - 1))] += 1


@compiled
def _prefixes(
    members: Places, sets: Sets, counters: NDArray[np.uint32], threshold: float,
    shingles: Hashes, places: Places, short: NDArray[np.bool_],
) -> int:  # fmt: skip
    """Write the rarest shingles of each set, but for those that only it holds; return how many there are.

    `short` says which are in the prefix that suffices where the other set is at least as large.
    """
    wrote = 0
    for number in range(len(members)):
        document = members[number]
        size = sets.sizes[document]
        own = sets.shingles[sets.ends[document] - size : sets.ends[document]]
        counts = np.empty(size, np.int64)
        for place in range(size):
            counts[place] = counters[np.int64(own[place] & np.uint64(SLOTS - 1))]
        order = np.argsort(counts, kind="mergesort")  # stable: of equally common ones the smallest hash
        long_prefix = size - int(np.ceil(threshold * size - SLACK)) + 1
        short_prefix = size - int(np.ceil(2 * threshold / (1 + threshold) * size - SLACK)) + 1
        for place in range(min(long_prefix, size)):
            if counts[order[place]] > 1:
                shingles[wrote], places[wrote] = own[order[place]], number
                short[wrote] = place < short_prefix
                wrote += 1
    return wrote


@compiled
def _join_lists(
    shingles: Hashes, documents: Places, short: NDArray[np.bool_], forest: Forest, sets: Sets, threshold: float
) -> None:
    """Compare the documents that share a shingle, smaller sets first, unless they are linked already."""
    start = 0
    while start < len(shingles):
        end = start + 1
        while end < len(shingles) and shingles[end] == shingles[start]:
            end += 1
        _join_list(documents[start:end], short[start:end], forest, sets, threshold)
        start = end


@compiled
def _join_list(documents: Places, short: NDArray[np.bool_], forest: Forest, sets: Sets, threshold: float) -> None:
    """Compare the documents of one list, in which sizes rise, a cluster with a cluster.

    Clusters come in the order of their first documents, so that the pairs found do not depend on how documents are
    numbered.
    """
    roots = np.empty(len(documents), np.int64)
    _roots(forest.parents, documents, roots)
    if (roots == roots[0]).all() or not short.any():
        return
    order = np.argsort(roots, kind="mergesort")
    first = np.empty(len(order), np.int64)
    for place in range(len(order)):
        starts = place == 0 or roots[order[place]] != roots[order[place - 1]]
        first[order[place]] = order[place] if starts else first[order[place - 1]]
    order = np.argsort(first, kind="mergesort")
    blocks = [0]
    for place in range(1, len(order)):
        if first[order[place]] != first[order[place - 1]]:
            blocks.append(place)  # noqa: PERF401 - numba's lists have no comprehension over a condition
    blocks.append(len(order))
    for block in range(len(blocks) - 1):
        members = order[blocks[block] : blocks[block + 1]]
        smaller = members[short[members]]
        if len(smaller):
            for other in range(len(blocks) - 1):
                if other != block:
                    larger = order[blocks[other] : blocks[other + 1]]
                    _join_blocks(documents, smaller, larger, forest, sets, threshold)


@compiled
def _join_blocks(
    documents: Places, smaller: Places, larger: Places, forest: Forest, sets: Sets, threshold: float
) -> None:
    """Compare documents of one cluster with those of another that are as large or larger, until a pair links them."""
    if root_of(forest.parents, documents[smaller[0]]) == root_of(forest.parents, documents[larger[0]]):
        return
    for place in smaller:
        for other in larger[np.searchsorted(larger, place) :]:
            if compare(forest, sets, documents[place], documents[other], threshold):
                return
