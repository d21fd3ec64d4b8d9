"""Whole pieces of evaluation items, as the hashes of their n-grams in sorted arrays: some 25 bytes of memory each."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.corpus.decontaminate import DecontaminateConfig
from pipelines.corpus.item_texts import JOINED, OWN, WRONG, Texts
from pipelines.corpus.ngrams import Hashes, ngram_hashes


@dataclass(frozen=True)
class Place:
    """Where in a document, counted in words, a piece of an item stands, and how much of the item's text it holds."""

    item: int
    start: int
    end: int
    share: float = 1.0


class Lookup:
    """Finds hashes among sorted ones: a table of their first bits answers for most that are not there."""

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = hashes
        bits = max(len(hashes).bit_length() + 3, 8)
        self._shift = np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, np.bool_)
        self._table[hashes >> self._shift] = True

    def matches(self, grams: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the places of those `grams` that are among the hashes, and where there the first equal one is."""
        perhaps = np.flatnonzero(self._table[grams >> self._shift])
        wanted = grams[perhaps]
        first = np.searchsorted(self.hashes, wanted)
        first[first == len(self.hashes)] = 0
        found = self.hashes[first] == wanted if len(self.hashes) else np.zeros(len(wanted), np.bool_)
        return perhaps[found], first[found]


@dataclass
class ExactIndex:
    """The n-grams of all items, by their number of words."""

    lookups: dict[int, Lookup] = field(default_factory=dict)
    items: dict[int, NDArray[np.int32]] = field(default_factory=dict)

    def places(self, hashed: Hashes) -> Iterator[Place]:
        """Yield every item of which the words hold a piece, once, with the first such piece."""
        seen: set[int] = set()
        for n, lookup in self.lookups.items():
            grams = ngram_hashes(hashed, n)
            for start, first in zip(*(found.tolist() for found in lookup.matches(grams)), strict=True):
                end = int(np.searchsorted(lookup.hashes, grams[start], side="right"))
                for item in self.items[n][first:end].tolist():
                    if item not in seen:
                        seen.add(item)
                        yield Place(item, start, start + n)

    def searched(self, count: int) -> NDArray[np.bool_]:
        """Return which of `count` items have a piece here."""
        found = np.zeros(count, np.bool_)
        for held in self.items.values():
            found[held] = True
        return found


def index_exact(texts: Texts, benchmarks: NDArray[np.int64], config: DecontaminateConfig) -> ExactIndex:
    """Return the index of the items' n-grams, without those that are a benchmark's template.

    A text shorter than `ngram_words`, but of `min_words` or more, is one n-gram.
    """
    index = ExactIndex()
    sizes = np.minimum(texts.lengths, config.ngram_words)
    sizes[sizes < min(config.min_words, config.ngram_words)] = 0
    for n in np.unique(sizes[sizes > 0])[::-1].tolist():
        hashed, held = _convicting(texts, np.flatnonzero(sizes == n), n)
        order = np.lexsort((held, benchmarks[held], hashed))
        hashed, held = hashed[order], held[order]
        telling = uses(hashed, benchmarks[held]) <= config.common_items
        if telling.any():
            index.lookups[n], index.items[n] = Lookup(hashed[telling]), held[telling]
    return index


def _convicting(texts: Texts, some: NDArray[np.int64], n: int) -> tuple[Hashes, NDArray[np.int32]]:
    """Return the n-grams of the texts that convict, once for each item, and their items.

    Those of an item's own texts do, and of its joined texts those that no wrong choice has by itself.
    """
    hashed, of = texts.grams(some, n)
    held, roles = texts.items[of], texts.roles[of]
    order = np.lexsort((held, hashed))
    hashed, held, roles = hashed[order], held[order], roles[order]
    first = np.ones(len(hashed), np.bool_)
    first[1:] = (hashed[1:] != hashed[:-1]) | (held[1:] != held[:-1])
    starts = np.flatnonzero(first)
    own, joined, wrong = (np.logical_or.reduceat(roles == role, starts) for role in (OWN, JOINED, WRONG))
    chosen = starts[own | (joined & ~wrong)]
    return hashed[chosen], held[chosen]


def uses(hashed: Hashes, groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each of the n-grams sorted by hash and group, how often it is in its group."""
    first = np.ones(len(hashed), np.bool_)
    first[1:] = (hashed[1:] != hashed[:-1]) | (groups[1:] != groups[:-1])
    starts = np.flatnonzero(first)
    return np.repeat(np.diff(starts, append=len(hashed)), np.diff(starts, append=len(hashed)))
