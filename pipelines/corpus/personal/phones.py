"""Telephone numbers in text: international ones (ITU-T E.164), national ones as written in full, and any after a cue.

National forms are those of North America and those that begin with the trunk prefix 0 (ITU-T E.123). A shorter or
otherwise written number is one only where a word such as "phone" stands before it.
"""

import re
from collections.abc import Iterator

MAX_DIGITS = 15
"""E.164 allows no more."""
_EXTENSION = r"(?:[ ]?(?:x|ext\.?)[ ]?\d{1,5})?"
_PHONE = re.compile(
    rf"""
    (?<![\w.+/=-])
    (?P<number> (?:\+|00)[1-9]\d{{0,2}}[ .-]?(?:\(\d{{1,4}}\)[ .-]?)?[1-9]\d{{0,3}}(?:[ .-]?\d{{2,4}}){{1,4}}
      | (?:1[ .-])?(?:\([2-9]\d\d\)[ ]?|[2-9]\d\d[ .-])[2-9]\d\d[.-]\d{{4}}
    )
    {_EXTENSION} (?![\w]|[.,-]\d)
    """,
    re.VERBOSE,
)
_COUNTRY = re.compile(
    r"""
      1[2-9]\d{9}\Z | 7 | 2(?:[07]|1[12368]|[2346]\d|5[0-8]|9[01789]) | 3(?:[0-469]|5\d|7[0-8]|8[0-35-79])
    | 4(?:[013-9]|2[013]) | 5(?:[1-8]|[09]\d) | 6(?:[0-6]|7[02-9]|8[0-35-9]|9[0-2])
    | 8(?:[1246]|0[08]|5[02356]|7[08]|8[0-368]) | 9(?:[0-58]|6[0-8]|7[0-79]|9[2-68])
    """,
    re.VERBOSE,
)
"""The country codes that are given out (ITU-T E.164); after 1, the whole number of North America."""
_TRUNK = re.compile(
    r"""
    (?<![\w.,+:/=-])(?<!\d[ ])
    (?: \(0[1-9]\d{1,3}\)[ ]?\d{2,4}(?:[ -]?\d{2,4}){1,2}
      | 0[1-9]\d{1,3} ([ -]) \d{2,4} (?:\1\d{2,4}){1,3}
      | 0[1-9] ([ .-]) \d\d (?:\2\d\d){3}
    )
    (?![\w]|[.,:/ -]\d)
    """,
    re.VERBOSE,
)
_DIALLED = re.compile(rf"\d(?<!\d.)(?:[ ().-]{{0,2}}\d){{6,14}}{_EXTENSION}(?![\w]|[.,-]\d)")
_CUE = re.compile(
    r"\b(?:(?:tele|cell|smart)?phone|tel|mobile|cell|fax|whatsapp|call|dial)\b[^\d+(]{0,32}[+(]{0,2}\Z", re.I
)


def find_phones(text: str) -> Iterator[tuple[int, int]]:
    """Yield where a telephone number starts and ends."""
    for match in _PHONE.finditer(text):
        if _is_dialled(match.group("number")):
            yield match.span()
    for match in _TRUNK.finditer(text):
        if 10 <= _count_digits(match.group()) <= 11:
            yield match.span()
    for match in _DIALLED.finditer(text):
        before = text[max(0, match.start() - 44) : match.start()]
        if _CUE.search(before):
            yield match.start() - (len(before) - len(before.rstrip("+("))), match.end()


def _is_dialled(number: str) -> bool:
    """Return whether a number has as many digits as there may be and, where it is international, a country's code."""
    digits = "".join(filter(str.isdigit, number))
    if not number.startswith(("+", "00")):
        return True
    digits = digits.removeprefix("00")
    return 8 <= len(digits) <= MAX_DIGITS and bool(_COUNTRY.match(digits))


def _count_digits(text: str) -> int:
    return sum(map(str.isdigit, text))
