"""Clusters of near-equal short texts, and splits that never cut a cluster.

Two texts are near-equal when the Jaccard similarity of their shingles (words and pairs of words) reaches a
threshold; a cluster is what such pairs connect. The join is exact: prefix filtering (Chaudhuri, Ganti and Kaushik,
2006) finds every pair, so that a split can be proved clean.
"""

import math
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from pipelines.tokens.ranks import rank

OPENING_WORDS = 40
"""Words of a text that are compared: a summary is shorter, and long answers stay in bounded memory."""

QUOTE_SHINGLE = 3

WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Return the words in lower case, without punctuation; equal lists mean equal texts."""
    return WORD.findall(text.casefold())


def normalised(text: str) -> str:
    """Return the compared opening of a text in its normal form."""
    return " ".join(words(text)[:OPENING_WORDS]) or text.strip()


def shingles(normal: str) -> set[str]:
    """Return the words and pairs of neighbouring words of a normalised text."""
    parts = normal.split(" ")
    return {*parts, *(f"{left} {right}" for left, right in pairwise(parts))}


def clusters(texts: Sequence[str], threshold: float) -> list[str]:
    """Return each text's cluster, named by the smallest normalised text in it."""
    normal = [normalised(text) for text in texts]
    distinct = sorted(set(normal))
    root = list(range(len(distinct)))
    for left, right in near_pairs(distinct, threshold, root):
        low, high = sorted((_find(root, left), _find(root, right)))
        root[high] = low
    names = {text: distinct[_find(root, index)] for index, text in enumerate(distinct)}
    return [names[text] for text in normal]


def near_pairs(distinct: list[str], threshold: float, root: list[int]) -> Iterator[tuple[int, int]]:
    """Yield pairs of near-equal texts that `root` does not connect yet; the caller connects them."""
    sets = _by_rarity([shingles(text) for text in distinct])
    holders: dict[int, list[int]] = defaultdict(list)
    for index in sorted(range(len(sets)), key=lambda index: (len(sets[index]), index)):
        mine, size = set(sets[index]), len(sets[index])
        prefix = sets[index][: size - math.ceil(threshold * size - 1e-9) + 1]
        for other in sorted({other for shingle in prefix for other in holders[shingle]}):
            if len(sets[other]) < threshold * size - 1e-9 or _find(root, other) == _find(root, index):
                continue
            shared = len(mine.intersection(sets[other]))
            if shared >= threshold * (size + len(sets[other]) - shared) - 1e-9:
                yield other, index
        for shingle in prefix:
            holders[shingle].append(index)


def _by_rarity(sets: list[set[str]]) -> list["array[int]"]:
    """Return each set as numbers, the rarest shingle first."""
    frequency = Counter(shingle for members in sets for shingle in members)
    order = {name: place for place, name in enumerate(sorted(frequency, key=lambda name: (frequency[name], name)))}
    return [array("I", sorted(order[shingle] for shingle in members)) for members in sets]


def _find(root: list[int], index: int) -> int:
    while root[index] != index:
        root[index] = root[root[index]]
        index = root[index]
    return index


def split_of(cluster: str, seed: int, fractions: dict[str, float]) -> str:
    """Return the split that a cluster falls in: each named one with its chance, else `train`."""
    drawn = rank(seed, "split", cluster) / 2**64
    for name, fraction in fractions.items():
        if drawn < fraction:
            return name
        drawn -= fraction
    return "train"


def quoted(summaries: Sequence[str], owners: Sequence[str], pages: Sequence[str], threshold: float) -> set[str]:
    """Return the owners of summaries that a text of another owner quotes.

    `owners[i]` is the cluster of the i-th text of `pages`, and `summaries[i]` its summary, or nothing where nobody
    minds its being quoted. Quoted means that a share `threshold` of the summary's word triples stands in the text.
    """
    triples = [_triples(words(summary)) for summary in summaries]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, found in enumerate(triples):
        for triple in found:
            holders[triple].append(index)
    caught: set[str] = set()
    for owner, page in zip(owners, pages, strict=True):
        hits = Counter(index for triple in _triples(words(page)) & holders.keys() for index in holders[triple])
        caught.update(
            owners[index]
            for index, count in hits.items()
            if owners[index] != owner and count >= threshold * len(triples[index]) - 1e-9
        )
    return caught


def _triples(parts: list[str]) -> set[tuple[str, ...]]:
    if len(parts) < QUOTE_SHINGLE:
        return {tuple(parts)} if parts else set()
    return set(zip(*(parts[start:] for start in range(QUOTE_SHINGLE)), strict=False))
