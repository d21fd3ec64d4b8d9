"""The index of whole pieces holds what its definition says, item by item."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus.contamination import search_for
from pipelines.corpus.decontaminate import DecontaminateConfig
from pipelines.corpus.items import Item
from pipelines.corpus.ngrams import ngram_hashes, word_hashes, words

TEXTS = st.lists(st.lists(st.sampled_from("abcdef"), max_size=9).map(" ".join), max_size=3).map(tuple)
ITEMS = st.lists(st.builds(Item, st.sampled_from(["one", "two"]), st.just("x"), TEXTS, TEXTS, TEXTS), max_size=6)
CONFIG = DecontaminateConfig(ngram_words=5, min_words=3, common_items=2)


def pieces(texts: tuple[str, ...], n: int) -> set[int]:
    """Return the n-grams of the texts of which n words are looked for, one text after the other."""
    hashed = [word_hashes(words(text)) for text in texts]
    fitting = [found for found in hashed if min(len(found), CONFIG.ngram_words) == n]
    return {gram for found in fitting for gram in ngram_hashes(found, n).tolist()}


@settings(max_examples=60)
@given(ITEMS)
def test_an_item_is_convicted_by_its_own_pieces_and_by_joined_ones_that_no_wrong_choice_has(items: list[Item]) -> None:
    index = search_for(items, CONFIG, (), Path()).exact
    for n in range(3, 6):
        expected: set[tuple[int, int]] = set()
        for number, item in enumerate(items):
            own = pieces(item.own, n) | (pieces(item.joined, n) - pieces(item.wrong, n))
            expected |= {(gram, number) for gram in own}
        common = {
            (gram, name)
            for gram, number in expected
            for name in ("one", "two")
            if sum(items[other].benchmark == name for held, other in expected if held == gram) > CONFIG.common_items
        }
        telling = {pair for pair in expected if (pair[0], items[pair[1]].benchmark) not in common}
        held = index.lookups[n].hashes if n in index.lookups else np.empty(0, np.uint64)
        owners = index.items.get(n, np.empty(0, np.int32))
        assert set(zip(held.tolist(), owners.tolist(), strict=True)) == telling
        assert np.all(np.diff(held.astype(object)) >= 0) and len(held) == len(telling)
