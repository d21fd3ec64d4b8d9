"""A table with an entry for each code point: what it folds to, whether it is part of a word, whether it is blank.

With it a text's words are found in one pass over its UTF-8, without asking `unicodedata` about each text. That is
right for texts in which no code point changes with its neighbours: each begins, decomposed, with a starter that never
composes with what stands before it (Unicode Standard Annex 15, concatenation of normalised strings). Any other code
point is marked, and a text that holds one is normalised by Python first.
"""

import re
import sys
import unicodedata
from functools import cache
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.corpus.ngrams import UNSPACED

CODE = (1 << 21) - 1
"""The low bits of an entry: the folded code point, or for an expansion its number."""
WORD = 1 << 21
"""The folded code point is part of a word."""
ALONE = 1 << 22
"""It is a word of its own."""
BLANK = 1 << 23
EXPANSION = 1 << 24
"""It folds to several code points."""
NEIGHBOURS = 1 << 25
"""In compatibility form it depends on its neighbours: the words of its text are to be found by Python."""
RECOMPOSED = 1 << 26
"""In composed form it changes or may change: its text is to be composed by Python."""

CHANGING = (
    range(0x3400),
    range(0xA000, 0xAC00),
    range(0xD7A4, 0xD800),
    range(0xF900, 0x17000),
    range(0x18D00, 0x20000),
)
"""Code points among which some fold, decompose or compose; a test compares all others with Python's own answer."""
FAR_CHANGING = (range(0x2F800, 0x2FA20), range(0xE0000, 0xE1000))
JAMO = {chr(code) for code in chain(range(0x1161, 0x1176), range(0x11A8, 0x11C3))}


class Table(NamedTuple):
    """Entries by code point, and the entries that expansions consist of."""

    entries: NDArray[np.uint32]
    expansions: NDArray[np.uint32]
    ends: NDArray[np.int64]
    """Where each expansion ends; it begins where the one before it ends."""


@cache
def folded_table() -> Table:
    """Return the table for texts whose words have been normalised already: each code point is itself."""
    entries = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    everything = entries.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    for pattern, flag in ((f"[{UNSPACED}]+", ALONE), (rf"[^\W{UNSPACED}]+", WORD), (r"\s+", BLANK)):
        for found in re.finditer(pattern, everything):
            entries[found.start() : found.end()] |= flag
    return Table(entries, np.empty(0, np.uint32), np.empty(0, np.int64))


@cache
def raw_table() -> Table:
    """Return the table for texts as they are."""
    itself = folded_table().entries
    entries = itself.copy()
    codes = list(chain(*CHANGING, *FAR_CHANGING))
    seconds = _composing_seconds(codes)
    expansions: list[int] = []
    ends: list[int] = []
    for code in codes:
        char = chr(code)
        if unicodedata.decomposition(char) == "" and char.casefold() == char and not _leans_back(char, seconds):
            continue
        if char.isascii():
            entry = int(itself[ord(char.casefold())])
        elif _leans_back(unicodedata.normalize("NFKD", char), seconds):
            entry = NEIGHBOURS
        else:
            folded = unicodedata.normalize("NFKC", char).casefold()
            entry = int(itself[ord(folded)]) if len(folded) == 1 else EXPANSION | len(ends)
            if len(folded) != 1:
                expansions += itself[[ord(part) for part in folded]].tolist()
                ends.append(len(expansions))
        if unicodedata.normalize("NFC", char) != char or _leans_back(unicodedata.normalize("NFD", char), seconds):
            entry |= RECOMPOSED
        # What is blank is judged of the code point itself, as `str.split` does.
        entries[code] = entry & ~BLANK | int(itself[code]) & BLANK
    return Table(entries, np.array(expansions, np.uint32), np.array(ends, np.int64))


def _composing_seconds(codes: list[int]) -> set[str]:
    """Return the code points that may compose with the one before them."""
    pairs = (unicodedata.decomposition(chr(code)).split() for code in codes)
    return JAMO | {chr(int(pair[1], 16)) for pair in pairs if len(pair) == 2 and not pair[0].startswith("<")}


def _leans_back(decomposed: str, seconds: set[str]) -> bool:
    return unicodedata.combining(decomposed[0]) != 0 or decomposed[0] in seconds
