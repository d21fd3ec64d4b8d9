"""The repetition statistics of Gopher (Rae et al. 2021, arXiv:2112.11446, table A1).

Definitions follow datatrove's `GopherRepetitionFilter`, which counts n-grams of words and shares of characters. An
n-gram is a pair here, the rank of its first words and its last word: exact, and small for any n.
"""

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any

import pyarrow as pa

TOP = (2, 3, 4)
DUPLICATED = (5, 6, 7, 8, 9, 10)
MAX_WORDS = 100_000
"""The words whose n-grams are counted, so that memory is bounded; Gopher drops longer documents anyway."""

FIELDS: list[tuple[str, pa.DataType]] = [
    ("duplicate_paragraph_ratio", pa.float64()),
    ("duplicate_paragraph_char_ratio", pa.float64()),
    ("duplicate_line_ratio", pa.float64()),
    ("duplicate_line_char_ratio", pa.float64()),
    *((f"top_{n}_gram_char_ratio", pa.float64()) for n in TOP),
    *((f"duplicate_{n}_gram_char_ratio", pa.float64()) for n in DUPLICATED),
]

_PARAGRAPH_BREAK = re.compile(r"\n{2,}")
_LINE_BREAK = re.compile(r"\n+")


def gopher_repetition(text: str, words: list[str]) -> dict[str, Any]:
    """Return the shares of repeated paragraphs, lines and n-grams of a document; all are 0 for an empty one."""
    found = dict.fromkeys((name for name, _ in FIELDS), 0.0)
    if not text:
        return found
    for unit, pieces in (("paragraph", _PARAGRAPH_BREAK.split(text.strip())), ("line", _LINE_BREAK.split(text))):
        distinct = set(pieces)
        found[f"duplicate_{unit}_ratio"] = (len(pieces) - len(distinct)) / len(pieces)
        characters = sum(map(len, pieces)) - sum(map(len, distinct))
        found[f"duplicate_{unit}_char_ratio"] = characters / len(text)
    read = words[:MAX_WORDS]
    covered = len(text) if len(read) == len(words) else len(text) * sum(map(len, read)) / sum(map(len, words))
    found.update(_n_grams(read, covered))
    return found


def _n_grams(words: list[str], text_length: float) -> dict[str, float]:
    """Return the n-gram shares of the words.

    An n-gram can only come twice where the shorter one before it does, so each length looks at fewer places.
    """
    found: dict[str, float] = {}
    ends = [0, *accumulate(map(len, words))]  # characters in the words before each
    places: Sequence[int] = range(len(words))
    grams: Sequence[Hashable] = words
    for n in range(2, min(DUPLICATED[-1], len(words)) + 1):
        if places and places[-1] + n > len(words):
            places = places[:-1]
        keys = list(zip(grams, [words[place + n - 1] for place in places], strict=False))
        counts = Counter(keys)
        if n in TOP:
            common, most = max(counts.items(), key=itemgetter(1), default=((0, ""), 1))
            first = places[keys.index(common)] if most > 1 else 0
            found[f"top_{n}_gram_char_ratio"] = most * (ends[first + n] - ends[first] + n - 1) / text_length
        repeated = (key for key, count in counts.items() if count > 1)
        ranks = {key: rank for rank, key in enumerate(repeated)}
        places = [place for place, key in zip(places, keys, strict=False) if key in ranks]
        grams = [ranks[key] for key in keys if key in ranks]
        if n in DUPLICATED:
            if not places:
                break
            found[f"duplicate_{n}_gram_char_ratio"] = _repeated_characters(places, grams, ends, n) / text_length
    return found


def _repeated_characters(places: Sequence[int], grams: Sequence[Hashable], ends: list[int], n: int) -> int:
    """Return the characters in n-grams met before, reading on after each; `places` are those whose n-gram repeats."""
    seen: set[Hashable] = set()
    free = characters = 0
    for place, gram in zip(places, grams, strict=True):
        if place < free:
            continue
        if gram in seen:
            characters += ends[place + n] - ends[place]
            free = place + n
        else:
            seen.add(gram)
    return characters
