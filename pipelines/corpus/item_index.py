"""Whole pieces of evaluation items, as the hashes of their n-grams in sorted arrays: some 25 bytes of memory each."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.corpus.decontaminate import DecontaminateConfig
from pipelines.corpus.items import Item
from pipelines.corpus.ngrams import Hashes, ngram_hashes, word_hashes, words

Pieces = dict[int, Hashes]
"""N-grams by their number of words."""
NONE = np.empty(0, np.uint64)


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


def index_exact(items: Iterable[Item], benchmarks: NDArray[np.int64], config: DecontaminateConfig) -> ExactIndex:
    """Return the index of the items' n-grams, without those that are a benchmark's template."""
    index = ExactIndex()
    found: dict[int, list[Hashes]] = defaultdict(list)
    holders: dict[int, list[NDArray[np.int32]]] = defaultdict(list)
    for number, item in enumerate(items):
        for n, hashed in item_pieces(item, config).items():
            found[n].append(hashed)
            holders[n].append(np.full(len(hashed), number, np.int32))
    for n in sorted(found, reverse=True):
        hashed, held = np.concatenate(found[n]), np.concatenate(holders[n])
        order = np.lexsort((held, benchmarks[held], hashed))
        hashed, held = hashed[order], held[order]
        telling = uses(hashed, benchmarks[held]) <= config.common_items
        if telling.any():
            index.lookups[n], index.items[n] = Lookup(hashed[telling]), held[telling]
    return index


def uses(hashed: Hashes, groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each of the n-grams sorted by hash and group, how often it is in its group."""
    first = np.ones(len(hashed), np.bool_)
    first[1:] = (hashed[1:] != hashed[:-1]) | (groups[1:] != groups[:-1])
    starts = np.flatnonzero(first)
    return np.repeat(np.diff(starts, append=len(hashed)), np.diff(starts, append=len(hashed)))


def item_pieces(item: Item, config: DecontaminateConfig) -> Pieces:
    """Return the n-grams that convict, by their number of words."""
    own, joined, wrong = (_pieces(texts, config) for texts in (item.own, item.joined, item.wrong))
    return {
        n: np.union1d(own.get(n, NONE), np.setdiff1d(joined.get(n, NONE), wrong.get(n, NONE))) for n in own | joined
    }


def _pieces(texts: Iterable[str], config: DecontaminateConfig) -> Pieces:
    """Return the n-grams of the texts; a shorter text of `min_words` or more is one whole."""
    found: dict[int, list[Hashes]] = defaultdict(list)
    for text in texts:
        hashed = word_hashes(words(text))
        n = min(len(hashed), config.ngram_words)
        if n >= min(config.min_words, config.ngram_words):
            found[n].append(ngram_hashes(hashed, n))
    return {n: np.unique(np.concatenate(pieces)) for n, pieces in found.items()}
