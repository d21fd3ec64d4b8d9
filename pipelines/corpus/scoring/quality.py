"""The document statistics behind Gopher's quality rules (Rae et al. 2021, arXiv:2112.11446, appendix A1.1).

Definitions follow datatrove's `GopherQualityFilter`; words are those of the splitter.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.corpus.compiled import compiled
from pipelines.corpus.scoring.characters import LETTER, MARK, Points, Table, code_points
from pipelines.corpus.scoring.splitting import Keys, Places, bits, text_key
from pipelines.corpus.scoring.words import splitter

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
LONGEST_STOP_WORD = 4
BULLETS = ("•", "-")
ELLIPSES = ("...", "…")

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


def gopher_quality(text: str, points: Points, starts: Places, ends: Places) -> dict[str, Any]:
    """Return the statistics of a document; all are 0 for an empty one.

    `words` leaves out those that are punctuation alone; `stop_words` is the number of different ones.
    """
    total = len(starts)
    words, characters, with_letter, stops = word_traits(points, splitter().table, starts, ends, _stop_keys()).tolist()
    lines = text.splitlines()
    bullets = sum(line.lstrip().startswith(BULLETS) for line in lines) if "-" in text or "•" in text else 0
    ellipses = text.count("...") + text.count("…")
    trailing = sum(line.rstrip().endswith(ELLIPSES) for line in lines) if ellipses else 0
    return {
        "words": words,
        "mean_word_length": _ratio(characters, words),
        "hash_word_ratio": _ratio(text.count("#"), total),
        "ellipsis_word_ratio": _ratio(ellipses, total),
        "bullet_line_ratio": _ratio(bullets, len(lines)),
        "ellipsis_line_ratio": _ratio(trailing, len(lines)),
        "alpha_word_ratio": _ratio(with_letter, total),
        "stop_words": stops,
    }


@compiled
def word_traits(points: Points, table: Table, starts: Places, ends: Places, stop_keys: Keys) -> npt.NDArray[np.int64]:
    """Return how many words are more than punctuation, their characters, how many words have a letter, and how many
    different stop words there are."""
    found = np.zeros(4, np.int64)
    met = np.zeros(len(stop_keys), np.bool_)
    for word in range(len(starts)):
        start, end = starts[word], ends[word]
        lettered = counted = False
        for place in range(start, end):
            held = bits(points[place], table)
            counted = counted or not held & MARK
            if held & LETTER:
                lettered = True
                break
        if lettered or counted:
            found[0] += 1
            found[1] += end - start
        found[2] += lettered
        if lettered and end - start <= LONGEST_STOP_WORD:
            key = text_key(points, start, end)
            for number in range(len(stop_keys)):
                if stop_keys[number] == key:
                    met[number] = True
    found[3] = met.sum()
    return found


@cache
def _stop_keys() -> Keys:
    return np.array([text_key(code_points(word), 0, len(word)) for word in STOP_WORDS], np.uint64)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
