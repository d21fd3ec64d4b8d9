"""The splitter's kernel: words by the rules of spaCy's English tokenizer, from code points, at linear cost.

A stretch without white space loses marks at both ends until it is a known word (a contraction, an abbreviation) or no
mark is left; what remains is one word if it is an address, and else is split at the marks between its letters.
"""
# ruff: noqa: RUF001, SIM102, SIM109 - typographic characters are meant; plain comparisons compile to fewer branches

import numpy as np
import numpy.typing as npt

from pipelines.corpus.compiled import compiled
from pipelines.corpus.scoring.characters import (
    CURRENCY,
    DIGIT,
    EDGE,
    ICON,
    KNOWN,
    LETTER,
    LOWER,
    QUOTE,
    START,
    UPPER,
    Points,
    Table,
)

Keys = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int32]

LONGEST_KNOWN = 16
"""Characters in the longest word that the table of known words may hold."""

_OFFSET = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x100000001B3)

_DOT, _HYPHEN, _PLUS, _SLASH, _COLON, _AT, _COMMA = (ord(character) for character in ".-+/:@,")
_ELLIPSIS, _DASH, _LONG_DASH, _TILDE = (ord(character) for character in "…–—~")
_DEGREE, _SQUARE, _PERCENT, _BAR = (ord(character) for character in "°²%|")


@compiled
def bits(point: int, table: Table) -> int:
    """Return what the table says of a code point."""
    if point < KNOWN:
        return int(np.int64(table[point]))
    return LETTER if point < 0x40000 else 0


@compiled
def text_key(points: Points, start: int, end: int) -> np.uint64:
    """Return the 64-bit FNV-1a hash of the code points."""
    key = _OFFSET
    for place in range(start, end):
        key = (key ^ np.uint64(points[place])) * _PRIME
    return key


@compiled
def find(keys: Keys, key: np.uint64) -> int:
    """Return the slot that holds the key, or -1."""
    mask = len(keys) - 1
    slot = int(np.int64(key ^ (key >> np.uint64(32)))) & mask
    while keys[slot] != 0:
        if keys[slot] == key:
            return slot
        slot = (slot + 1) & mask
    return -1


@compiled
def known_slot(points: Points, start: int, end: int, keys: Keys) -> int:
    """Return the slot of a known word, or -1."""
    if start >= end or end - start > LONGEST_KNOWN:
        return -1
    return find(keys, text_key(points, start, end))


@compiled
def _dots(points: Points, start: int, end: int) -> int:
    """Return how many full stops follow one another from `start`."""
    place = start
    while place < end and points[place] == _DOT:
        place += 1
    return place - start


@compiled
def prefix_length(points: Points, table: Table, start: int, end: int) -> int:
    """Return the length of the mark that comes off the start, or 0."""
    first = points[start]
    if bits(first, table) & (EDGE | START):
        return 1
    if first == _PLUS:
        return 0 if start + 1 < end and bits(points[start + 1], table) & DIGIT else 1
    if first == _DOT:
        dots = _dots(points, start, end)
        return dots if dots > 1 else 0
    for length in (2, 3):  # A$, C$ and US$
        if start + length <= end and points[start + length - 1] == 36:
            if length == 2 and (first == 65 or first == 67):
                return 2
            if length == 3 and first == 85 and points[start + 1] == 83:
                return 3
    return 0


@compiled
def _stop(points: Points, table: Table, start: int, end: int) -> int:
    """Return the length of the full stops that come off the end, or 0."""
    if end - start < 2:
        return 0
    before = points[end - 2]
    if before == _DOT:
        place = end - 1
        while place > start and points[place - 1] == _DOT:
            place -= 1
        return end - place
    held = bits(before, table)
    if held & (DIGIT | LOWER | QUOTE) or (held & EDGE and not held & ICON and before != _DASH and before != _LONG_DASH):
        return 1
    if before == _HYPHEN or before == _PLUS or before == _PERCENT or before == _SQUARE or before == _BAR:
        return 1
    if end - start > 2:
        earlier = points[end - 3]
        if held & UPPER and bits(earlier, table) & UPPER:
            return 1
        if earlier == _DEGREE and (before == 70 or before == 67 or before == 75):
            return 1
    return 0


@compiled
def suffix_length(points: Points, table: Table, start: int, end: int, units: Keys) -> int:
    """Return the length of the mark, the genitive or the unit of measure that comes off the end, or 0."""
    if start >= end:
        return 0
    last = points[end - 1]
    if last == _DOT:
        return _stop(points, table, start, end)
    if last == _ELLIPSIS and end - start > 1 and points[end - 2] == _ELLIPSIS:
        return 2
    held = bits(last, table)
    if held & EDGE:
        return 1
    if end - start < 2:
        return 0
    before = points[end - 2]
    if (last == 115 or last == 83) and (before == 39 or before == 0x2019):
        return 2
    if bits(before, table) & DIGIT and (last == _PLUS or held & CURRENCY):
        return 1
    for length in (4, 3, 2, 1):
        if end - start > length and bits(points[end - length - 1], table) & DIGIT:
            if find(units, text_key(points, end - length, end)) >= 0:
                return length
    return 0


@compiled
def infix_length(points: Points, table: Table, start: int, place: int, end: int) -> int:
    """Return the length of the mark at `place` that splits the word from `start` to `end`, or 0."""
    point = points[place]
    held = bits(point, table)
    if held & (LETTER | DIGIT) and not held & ICON:
        return 0
    if point == _DOT:
        dots = _dots(points, place, end)
        if dots > 1:
            return dots
    if point == _ELLIPSIS or held & ICON:
        return 1
    if place == start or place + 1 >= end:
        return 0
    before, after = bits(points[place - 1], table), bits(points[place + 1], table)
    if point == _PLUS or point == _HYPHEN or point == 42 or point == 94:
        if before & DIGIT and (after & DIGIT or points[place + 1] == _HYPHEN):
            return 1
    if point == _DOT:
        return 1 if before & (LOWER | QUOTE) and after & (UPPER | QUOTE) else 0
    if not before & LETTER and not before & DIGIT:
        return 0
    if point == _COLON or point == 60 or point == 62 or point == 61 or point == _SLASH:
        return 1 if after & LETTER else 0
    if point == _COMMA:
        return 1 if before & LETTER and after & LETTER else 0
    longest = 3 if point == _HYPHEN else 2 if point == _LONG_DASH else 1
    if point == _HYPHEN or point == _DASH or point == _LONG_DASH or point == _TILDE:
        length = 1
        while length < longest and place + length < end and points[place + length] == point:
            length += 1
        if place + length < end and bits(points[place + length], table) & LETTER:
            return length
    return 0
