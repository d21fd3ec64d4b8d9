"""The repetition statistics of Gopher (Rae et al. 2021, arXiv:2112.11446, table A1).

Definitions follow datatrove's `GopherRepetitionFilter`, which counts n-grams of words and shares of characters. An
n-gram is a pair here, the n-gram of its first words and its last word: exact, and small for any n.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.corpus.compiled import compiled
from pipelines.corpus.scoring.characters import Points
from pipelines.corpus.scoring.splitting import Places, text_key

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
_N_GRAM_FIELDS = [name for name, _ in FIELDS if "_gram_" in name]


def gopher_repetition(text: str, points: Points, starts: Places, ends: Places) -> dict[str, Any]:
    """Return the shares of repeated paragraphs, lines and n-grams of a document; all are 0 for an empty one.

    `points` are the code points of the text, `starts` and `ends` the places of its words in them.
    """
    found = dict.fromkeys((name for name, _ in FIELDS), 0.0)
    if not text:
        return found
    for unit, pieces in (("paragraph", paragraphs(text)), ("line", lines(text))):
        distinct = set(pieces)
        found[f"duplicate_{unit}_ratio"] = (len(pieces) - len(distinct)) / len(pieces)
        if len(distinct) < len(pieces):
            characters = sum(map(len, pieces)) - sum(map(len, distinct))
            found[f"duplicate_{unit}_char_ratio"] = characters / len(text)
    covered = float(len(text))
    if len(starts) > MAX_WORDS:
        covered *= float((ends[:MAX_WORDS] - starts[:MAX_WORDS]).sum() / (ends - starts).sum())
        starts, ends = starts[:MAX_WORDS], ends[:MAX_WORDS]
    counted = repeated_characters(points, starts, ends)
    found.update(zip(_N_GRAM_FIELDS, (counted / covered).tolist(), strict=True))
    return found


def paragraphs(text: str) -> list[str]:
    """Return the pieces between two or more line feeds, with white space at the ends of the text left out."""
    return [bare for piece in text.strip().split("\n\n") if (bare := piece.lstrip("\n"))] or [""]


def lines(text: str) -> list[str]:
    """Return the pieces between line feeds; where the text starts or ends with some, an empty piece stands there."""
    inner = [piece for piece in text.split("\n") if piece]
    return [""] * text.startswith("\n") + inner + [""] * text.endswith("\n") or [""]


@compiled
def repeated_characters(points: Points, starts: Places, ends: Places) -> npt.NDArray[np.int64]:
    """Return the characters in the commonest 2-, 3- and 4-gram, and in 5- to 10-grams met before, each read on after.

    An n-gram can only come twice where the shorter one before it does, so each length looks at fewer places.
    """
    words = len(starts)
    found = np.zeros(9, np.int64)
    slots = 16
    while slots < 2 * words:
        slots *= 2
    table = np.empty(slots, np.int32)
    names = _word_names(points, starts, ends, table)
    sums = np.zeros(words + 1, np.int64)  # characters in the words before each
    for word in range(words):
        sums[word + 1] = sums[word] + ends[word] - starts[word]
    places, grams = np.arange(words), names.copy()
    slot_of, counts = np.empty(words, np.int64), np.empty(slots, np.int32)
    keys = np.empty(slots, np.int64)
    left = words
    for n in range(2, min(10, words) + 1):
        if left > 0 and places[left - 1] + n > words:
            left -= 1
        _count(places, grams, names, left, n, keys, counts, slot_of)
        if n <= 4:
            most, first = 1, 0
            for at in range(left):
                if counts[slot_of[at]] > most:
                    most, first = counts[slot_of[at]], places[at]
            found[n - 2] = most * (sums[first + n] - sums[first] + n - 1)
        still = 0
        for at in range(left):
            if counts[slot_of[at]] > 1:
                places[still], grams[still] = places[at], slot_of[at]
                still += 1
        left = still
        if left == 0 and n >= 4:
            break
        if n >= 5:
            free = 0
            for at in range(left):
                slot, place = grams[at], places[at]
                if place < free:
                    continue
                if counts[slot] < 0:
                    found[n - 2] += sums[place + n] - sums[place]
                    free = place + n
                else:
                    counts[slot] = -1
    return found


@compiled
def _word_names(points: Points, starts: Places, ends: Places, table: Places) -> npt.NDArray[np.int64]:
    """Return a number for each word, the same where the words are: the place of the first that is equal."""
    names = np.empty(len(starts), np.int64)
    table[:] = -1
    mask = len(table) - 1
    for word in range(len(starts)):
        start, end = starts[word], ends[word]
        key = text_key(points, start, end)
        slot = int(np.int64(key ^ (key >> np.uint64(29)))) & mask
        while True:
            other = table[slot]
            if other < 0:
                table[slot] = word
                names[word] = word
                break
            if ends[other] - starts[other] == end - start:
                at = 0
                while start + at < end and points[starts[other] + at] == points[start + at]:
                    at += 1
                if start + at == end:
                    names[word] = other
                    break
            slot = (slot + 1) & mask
    return names


@compiled
def _count(
    places: npt.NDArray[np.int64],
    grams: npt.NDArray[np.int64],
    names: npt.NDArray[np.int64],
    left: int,
    n: int,
    keys: npt.NDArray[np.int64],
    counts: Places,
    slot_of: npt.NDArray[np.int64],
) -> None:
    """Count the n-grams at the first `left` places; `slot_of` then leads from each to its number in `counts`."""
    slots = 16
    while slots < 2 * left:
        slots *= 2
    keys[:slots] = -1
    for at in range(left):
        key = (grams[at] << 32) | names[places[at] + n - 1]
        mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
        slot = int(np.int64(mixed >> np.uint64(20))) & (slots - 1)
        while keys[slot] != -1 and keys[slot] != key:
            slot = (slot + 1) & (slots - 1)
        if keys[slot] == -1:
            keys[slot] = key
            counts[slot] = 0
        counts[slot] += 1
        slot_of[at] = slot
