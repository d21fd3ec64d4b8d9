"""Word n-grams as 64-bit hashes, a whole text at a time."""

import re
import unicodedata
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

# Scripts that write no blank between words: each of their characters is a word.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
MULTIPLIER = 0x9E3779B97F4A7C15
"""Odd, so that multiplying by it loses no bit of a 64-bit number."""
SEED, WORD_MULTIPLIER, SHIFT = 0xCBF29CE484222325, 0xD6E8FEB86659FD93, 32
"""Of a word's hash: where it begins, its factor for each code point, and how far its high bits go down."""
_MASK = (1 << 64) - 1


def words(text: str) -> list[str]:
    """Return the words of `text`, case-folded and in compatibility form, without punctuation."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.casefold())


@lru_cache(maxsize=1 << 18)
def _word_hash(word: str) -> int:
    """Return the hash that the compiled kernel gives the word too: FNV-1a's step a code point, then one more mixing."""
    total = SEED
    for char in word:
        total = (total ^ ord(char)) * WORD_MULTIPLIER & _MASK
    return (total ^ total >> SHIFT) * MULTIPLIER & _MASK


def word_hashes(found: list[str]) -> Hashes:
    """Return the hash of each word."""
    return np.fromiter(map(_word_hash, found), np.uint64, len(found))


def ngram_hashes(hashes: Hashes, n: int) -> Hashes:
    """Return the hash of each run of `n` words, from their hashes; none for a text of fewer words."""
    places = max(len(hashes) - n + 1, 0)
    total = np.zeros(places, np.uint64)
    for offset in range(n if places else 0):
        # Polynomial in the multiplier modulo 2**64, where numpy's products wrap.
        total = total * np.uint64(MULTIPLIER) + hashes[offset : offset + places]
    return total


def shingles(text: str, n: int) -> Hashes:
    """Return the set of n-grams of `text`, sorted; of a shorter text its words as one, of a text without words none."""
    hashes = word_hashes(words(text))
    return np.unique(ngram_hashes(hashes, min(n, len(hashes)))) if len(hashes) else hashes


def normalised(text: str) -> str:
    """Return `text` in composed form with every run of blanks as one: what two equal documents have in common."""
    return " ".join(unicodedata.normalize("NFC", text).split())
