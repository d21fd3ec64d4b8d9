"""What the splitter asks of a character, as a bit each in one table over code points."""
# ruff: noqa: RUF001 - typographic characters are meant

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt
from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION

LETTER = 1
UPPER = 2
LOWER = 4
"""A letter of a script without case is both, as in spaCy."""
DIGIT = 8
SPACE = 16
EDGE = 32
"""Comes off both ends of a word."""
START = 64
"""Comes off the start of a word."""
QUOTE = 128
MARK = 256
"""Not counted as a word where nothing else stands: Gopher's punctuation, as datatrove has it."""
PUNCTUATION = 512
"""Of a Unicode category P."""
SENTENCE_END = 1024
ICON = 2048
CURRENCY = 4096
HOST = 8192
"""May begin or end a label of a host name."""

Table = npt.NDArray[np.uint16]
Points = npt.NDArray[np.uint32]

KNOWN = 0x20000
"""The table's length: above it there are rare ideographs, which are letters, and what has no meaning here."""

_MARKS = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
_QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉〈〉⟦⟧"
_CURRENCIES = "$£€¥฿₽﷼₴" + "".join(map(chr, range(0x20A0, 0x20C0)))


@cache
def character_table() -> Table:
    """Return the bits of every code point below `KNOWN`."""
    table = np.zeros(KNOWN, np.uint16)
    for point in range(KNOWN):
        category = unicodedata.category(chr(point))
        if category[0] == "L":
            table[point] = LETTER | {"Lu": UPPER, "Ll": LOWER, "Lo": UPPER | LOWER}.get(category, 0)
        elif category[0] == "P":
            table[point] = PUNCTUATION
        elif category == "So":
            table[point] = ICON | EDGE
        if chr(point).isspace():
            table[point] |= SPACE
    table[ord("0") : ord("9") + 1] |= DIGIT
    table[[point for point in range(0x80) if chr(point).isalnum()]] |= HOST
    table[0xA1:0x10000] |= HOST
    for characters, bit in (
        (_MARKS + "—–", EDGE),
        (_QUOTES, EDGE | QUOTE),
        (_CURRENCIES, START | CURRENCY),
        ("§%=", START),
        (PUNCTUATION_SET, MARK),
        (TERMINAL_PUNCTUATION, SENTENCE_END),
    ):
        table[[ord(character) for character in characters]] |= bit
    return table


def code_points(text: str) -> Points:
    """Return the code points of the text; lone surrogates are code points too."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
