"""The texts of all evaluation items as one row of word hashes, whose n-grams take a few array operations.

In memory are 8 bytes a word, and while an index is made some 60 an n-gram.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.corpus.items import Item
from pipelines.corpus.ngrams import MULTIPLIER, Hashes, word_hashes, words

OWN, JOINED, WRONG = range(3)
"""What a text is to its item."""


@dataclass(frozen=True)
class Texts:
    """The texts of items in their order; the columns have a row a text but for `hashes`, which has one a word."""

    hashes: Hashes
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    items: NDArray[np.int32]
    roles: NDArray[np.int8]
    told: NDArray[np.bool_]
    """Whether an edited copy of the text is looked for: each of an item's own texts, once, and the first joined one."""

    def grams(self, some: NDArray[np.int64], n: int) -> tuple[Hashes, NDArray[np.int64]]:
        """Return the n-grams of the texts `some`, text after text, and the text of each."""
        counts = np.maximum(self.lengths[some] - n + 1, 0)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        places = np.repeat(self.starts[some], counts) + within
        total = np.zeros(len(places), np.uint64)
        for offset in range(n):
            total = total * np.uint64(MULTIPLIER) + self.hashes[places + offset]  # as in `ngram_hashes`
        return total, np.repeat(some, counts)


def hashed_texts(items: Iterable[Item]) -> Texts:
    """Return the texts of the items, by their words."""
    hashes: list[Hashes] = []
    rows: list[tuple[int, int, bool]] = []
    for number, item in enumerate(items):
        told: set[str] = set()
        for role, texts in ((OWN, item.own), (JOINED, item.joined), (WRONG, item.wrong)):
            for place, text in enumerate(texts):
                looked_for = text not in told and (role == OWN or (role == JOINED and place == 0))
                told.add(text)
                hashes.append(word_hashes(words(text)))
                rows.append((number, role, looked_for))
    lengths = np.array([len(found) for found in hashes], np.int64)
    return Texts(
        hashes=np.concatenate([*hashes, np.empty(0, np.uint64)]),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        items=np.array([number for number, _, _ in rows], np.int32),
        roles=np.array([role for _, role, _ in rows], np.int8),
        told=np.array([looked_for for _, _, looked_for in rows], np.bool_),
    )
