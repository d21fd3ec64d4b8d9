"""The document statistics behind Gopher's quality rules (Rae et al. 2021, arXiv:2112.11446, appendix A1.1).

Definitions follow datatrove's `GopherQualityFilter`; words come from `split_words`.
"""

from collections import Counter
from functools import lru_cache
from typing import Any

import pyarrow as pa
from datatrove.utils.text import PUNCTUATION_SET

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
BULLETS = ("•", "-")
ELLIPSES = ("...", "…")
LONGEST_REMEMBERED = 40

FIELDS: list[tuple[str, pa.DataType]] = [
    ("words", pa.int64()),
    ("mean_word_length", pa.float64()),
    ("hash_word_ratio", pa.float64()),
    ("ellipsis_word_ratio", pa.float64()),
    ("bullet_line_ratio", pa.float64()),
    ("ellipsis_line_ratio", pa.float64()),
    ("alpha_word_ratio", pa.float64()),
    ("stop_words", pa.int64()),
]


def gopher_quality(text: str, counts: "Counter[str]") -> dict[str, Any]:
    """Return the statistics of a document whose words are counted in `counts`; all are 0 for an empty one.

    `words` leaves out those that are punctuation alone; `stop_words` is the number of different ones.
    """
    total = counts.total()
    words = characters = with_letter = 0
    for word, count in counts.items():
        counted, lettered = _traits(word) if len(word) <= LONGEST_REMEMBERED else _examine(word)
        if counted:
            words += count
            characters += count * len(word)
        if lettered:
            with_letter += count
    lines = text.splitlines()
    bullets = sum(line.lstrip().startswith(BULLETS) for line in lines)
    ellipses = sum(line.rstrip().endswith(ELLIPSES) for line in lines)
    return {
        "words": words,
        "mean_word_length": _ratio(characters, words),
        "hash_word_ratio": _ratio(text.count("#"), total),
        "ellipsis_word_ratio": _ratio(text.count("...") + text.count("…"), total),
        "bullet_line_ratio": _ratio(bullets, len(lines)),
        "ellipsis_line_ratio": _ratio(ellipses, len(lines)),
        "alpha_word_ratio": _ratio(with_letter, total),
        "stop_words": len(STOP_WORDS & counts.keys()),
    }


def _examine(word: str) -> tuple[bool, bool]:
    """Return whether the word is more than punctuation, and whether it has a letter."""
    return not PUNCTUATION_SET.issuperset(word), any(map(str.isalpha, word))


_traits = lru_cache(1 << 16)(_examine)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
