"""From addresses, digests and verified pairs to a verdict on every document."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.artifacts.progress import meter
from pipelines.corpus.compiled import compiled
from pipelines.corpus.duplicates.band_runs import BandRuns
from pipelines.corpus.duplicates.hot_buckets import HOT, HotBuckets
from pipelines.corpus.duplicates.index import Digests, Records
from pipelines.corpus.duplicates.jaccard import Forest, Places, Sets, forest_of, link_small, root_of

KEPT, URL, EXACT, NEAR = range(4)
KINDS = ("kept", "url", "exact", "near")


@dataclass(frozen=True)
class Verdicts:
    """What becomes of each document."""

    kinds: NDArray[np.int8]
    """An index of `KINDS`."""
    stands: Places
    """The kept document that stands for it; a kept one stands for itself."""
    neighbours: Places
    """What convicted it: the document of the same address or text, or the next on the chain of pairs to the kept."""
    forest: Forest


def decide(
    records: Records, runs: BandRuns, ranks: Places, sets: Sets, threshold: float, stays: NDArray[np.bool_]
) -> Verdicts:
    """Return the verdict on each document; those that `stays` names are kept whatever they resemble."""
    count = len(records)
    kinds, neighbours = np.zeros(count, np.int8), np.arange(count)
    some = np.flatnonzero(records.urls.any(axis=1))
    same_url = _first_of_equal(records.urls, some, ranks)
    kinds[some[same_url != some]] = URL
    neighbours[some] = same_url
    rest = np.flatnonzero(kinds == KEPT)
    same_text = _first_of_equal(records.digests, rest, ranks)
    kinds[rest[same_text != rest]] = EXACT
    neighbours[rest] = same_text
    meets = (kinds == KEPT) & (records.sizes > 0)
    forest = _link(runs, ranks, meets, sets, records.keys(runs.bands), threshold)
    clusters = np.empty(count, np.int64)
    _all_roots(forest.parents, clusters)
    distinct = np.flatnonzero(kinds == KEPT)
    stands = np.arange(count)
    stands[distinct] = _first_of_groups(clusters[distinct], distinct, ranks)
    near = distinct[stands[distinct] != distinct]
    kinds[near] = NEAR
    _towards(forest.pairs[: forest.counts[0]], near, stands, neighbours)
    for kind in (EXACT, URL):  # whose stand-ins have theirs by now
        own = kinds == kind
        stands[own] = stands[neighbours[own]]
    kinds[stays] = KEPT
    stands[stays] = neighbours[stays] = np.flatnonzero(stays)
    return Verdicts(kinds, stands, neighbours, forest)


def _first_of_equal(digests: Digests, some: Places, ranks: Places) -> Places:
    """Return, for each of the documents `some`, the first by rank of those whose digest is the same."""
    order = np.lexsort((ranks[some], digests[some, 1], digests[some, 0]))
    ordered = digests[some[order]]
    starts = np.ones(len(order), np.bool_)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(len(some), np.int64)
    first[order] = some[order][np.flatnonzero(starts)[np.cumsum(starts) - 1]]
    return first


def _first_of_groups(groups: Places, some: Places, ranks: Places) -> Places:
    """Return, for each of the documents `some`, the first by rank of its group."""
    order = np.lexsort((ranks[some], groups))
    starts = np.diff(groups[order], prepend=-1) != 0
    first = np.empty(len(some), np.int64)
    first[order] = some[order][np.flatnonzero(starts)[np.cumsum(starts) - 1]]
    return first


def _link(
    runs: BandRuns, ranks: Places, meets: NDArray[np.bool_], sets: Sets, keys: Digests, threshold: float
) -> Forest:
    forest = forest_of(len(ranks))
    hot = HotBuckets(len(ranks), forest, sets, threshold)
    with meter("comparing candidates", total=runs.bands, unit="bands") as counter:
        done = 0
        for band, buckets in runs.buckets(ranks, meets):
            link_small(buckets.documents, buckets.starts, HOT, band, forest, sets, keys, threshold)
            lengths = np.diff(buckets.starts)
            for number in np.flatnonzero(lengths > HOT):
                hot.join(buckets.documents[buckets.starts[number] : buckets.starts[number + 1]])
            counter.advance(band - done)
            done = band
    return forest


@compiled
def _all_roots(parents: Places, out: Places) -> None:
    for document in range(len(parents)):
        out[document] = root_of(parents, document)


def _towards(pairs: Places, near: Places, stands: Places, neighbours: Places) -> None:
    """Set, for each of the documents `near`, the next one on its way through the pairs to the one that stays."""
    ends = np.concatenate([pairs, pairs[:, ::-1]])
    ends = ends[np.argsort(ends[:, 0], kind="stable")]
    starts = np.searchsorted(ends[:, 0], np.arange(len(stands) + 1))
    queue = np.empty(len(stands), np.int64)
    first = np.unique(stands[near])
    queue[: len(first)] = first
    _walk(queue, len(first), starts, np.ascontiguousarray(ends[:, 1]), neighbours)


@compiled
def _walk(queue: Places, waiting: int, starts: Places, others: Places, neighbours: Places) -> None:
    """Walk the trees from the kept documents outwards."""
    at = 0
    while at < waiting:
        document = queue[at]
        at += 1
        for place in range(starts[document], starts[document + 1]):
            other = others[place]
            if other != neighbours[document]:
                neighbours[other] = document
                queue[waiting] = other
                waiting += 1
