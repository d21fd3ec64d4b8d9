"""Edited copies of evaluation items: the share of a text's short n-grams that stand close together in a document.

A text of an item is a near-duplicate of a passage when the passage, at most half as long again, holds `near_share` of
its n-grams (containment in a window, Broder 1997) and `near_min_shared` of them at least. N-grams that many items of a
benchmark share tell nothing and are left out of both numbers. In memory are some 25 bytes for each n-gram.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.corpus.decontaminate import DecontaminateConfig
from pipelines.corpus.item_index import Lookup, Place, uses
from pipelines.corpus.item_texts import Texts
from pipelines.corpus.ngrams import Hashes, ngram_hashes

WINDOW = 1.5
"""Length of the passage over that of the text: room for words put in."""


@dataclass(frozen=True)
class NearIndex:
    """The telling n-grams of long enough texts, sorted by hash, and what each text needs."""

    n: int
    lookup: Lookup
    texts: NDArray[np.int32]
    """The text of each n-gram."""
    owners: NDArray[np.int32]
    """By text, its item."""
    sizes: NDArray[np.int32]
    """By text, its telling n-grams."""
    needed: NDArray[np.int32]
    """By text, how many of them a passage must hold."""
    windows: NDArray[np.int32]
    """By text, the most places that the passage's n-grams may begin at."""

    def places(self, hashed: Hashes) -> Iterator[Place]:
        """Yield every item of which the words hold an edited text, once, with the passage that holds most of it."""
        grams = ngram_hashes(hashed, self.n)
        at, first = self.lookup.matches(grams)
        if not len(at):
            return
        counts = np.searchsorted(self.lookup.hashes, grams[at], side="right") - first
        spread = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
        texts, at = self.texts[spread], np.repeat(at, counts)
        order = np.argsort(texts, kind="stable")
        texts, at = texts[order], at[order]
        best: dict[int, Place] = {}
        for start, end in self._close(texts, at):
            text = int(texts[start])
            found = self._densest(text, at[start:end], grams)
            if found and (found.item not in best or found.share > best[found.item].share):
                best[found.item] = found
        yield from best.values()

    def searched(self, count: int) -> NDArray[np.bool_]:
        """Return which of `count` items have a text here."""
        found = np.zeros(count, np.bool_)
        found[self.owners[self.texts]] = True
        return found

    def _close(self, texts: NDArray[np.int32], at: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Yield the runs of one text's n-grams in which as many as it needs stand within its window."""
        needed = self.needed[texts]
        last = np.arange(len(texts)) + needed - 1
        inside = last < len(texts)
        here, there = np.flatnonzero(inside), last[inside]
        close = (texts[here] == texts[there]) & (at[there] - at[here] < self.windows[texts[here]])
        for text in np.unique(texts[here[close]]).tolist():
            yield int(np.searchsorted(texts, text)), int(np.searchsorted(texts, text, side="right"))

    def _densest(self, text: int, at: NDArray[np.int64], grams: Hashes) -> Place | None:
        """Return the passage with the most different n-grams of a text, if they are enough."""
        window, places = int(self.windows[text]), at.tolist()
        held: dict[int, int] = {}
        most, where, begin = 0, (0, 0), 0
        for place in places:
            gram = int(grams[place])
            held[gram] = held.get(gram, 0) + 1
            while place - places[begin] >= window:
                gone = int(grams[places[begin]])
                held[gone] -= 1
                if not held[gone]:
                    del held[gone]
                begin += 1
            if len(held) > most:
                most, where = len(held), (places[begin], place + self.n)
        if most < self.needed[text]:
            return None
        return Place(int(self.owners[text]), *where, share=most / int(self.sizes[text]))


def index_near(texts: Texts, benchmarks: NDArray[np.int64], config: DecontaminateConfig) -> NearIndex:
    """Return the index of the items' texts that have enough telling n-grams."""
    n = config.near_ngram_words
    chosen = np.flatnonzero(texts.told & (texts.lengths >= n))
    owner = texts.items[chosen]
    hashes, texts_of = _different(*texts.grams(chosen, n))
    numbers = np.searchsorted(chosen, texts_of).astype(np.int32)
    telling = _telling(hashes, owner[numbers], benchmarks, config.common_items)
    hashes, numbers = hashes[telling], numbers[telling]
    sizes = np.bincount(numbers, minlength=len(chosen)).astype(np.int32)
    enough = sizes[numbers] >= config.near_min_shared
    hashes, numbers = hashes[enough], numbers[enough]
    order = np.lexsort((numbers, hashes))
    return NearIndex(
        n=n,
        lookup=Lookup(hashes[order]),
        texts=numbers[order],
        owners=owner,
        sizes=sizes,
        needed=np.maximum(np.ceil(sizes * config.near_share), config.near_min_shared).astype(np.int32),
        windows=np.ceil(texts.lengths[chosen] * WINDOW).astype(np.int32),
    )


def _telling(
    hashes: Hashes, items: NDArray[np.int32], benchmarks: NDArray[np.int64], common_items: int
) -> NDArray[np.bool_]:
    """Return which n-grams are in no more than `common_items` items of any benchmark."""
    held, owners = _different(hashes, items)
    groups = benchmarks[owners]
    order = np.lexsort((groups, held))
    often = uses(held[order], groups[order]) > common_items
    return ~np.isin(hashes, held[order][often])


def _different(hashes: Hashes, holders: NDArray[Any]) -> tuple[Hashes, NDArray[Any]]:
    """Return each n-gram of a holder once, holder after holder."""
    order = np.lexsort((hashes, holders))
    hashes, holders = hashes[order], holders[order]
    first = np.ones(len(hashes), np.bool_)
    first[1:] = (hashes[1:] != hashes[:-1]) | (holders[1:] != holders[:-1])
    return hashes[first], holders[first]
