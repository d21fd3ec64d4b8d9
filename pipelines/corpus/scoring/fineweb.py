"""The statistics behind FineWeb's own rules (Penedo et al. 2024, arXiv:2406.17557, section 3.5).

Definitions follow datatrove's `FineWebQualityFilter`.
"""

from typing import Any

import pyarrow as pa
from datatrove.utils.text import TERMINAL_PUNCTUATION

END_MARKS = frozenset(TERMINAL_PUNCTUATION)
SHORT_LINE = 30
"""Most characters in a short line."""

FIELDS: list[tuple[str, pa.DataType]] = [
    ("punctuated_line_ratio", pa.float64()),
    ("short_line_ratio", pa.float64()),
    ("repeated_line_char_ratio", pa.float64()),
    ("line_feed_word_ratio", pa.float64()),
]


def fineweb_quality(text: str, words: int) -> dict[str, Any]:
    """Return the shares of lines that end in a mark and of short lines, of characters in lines met before, and the
    line feeds per word, where `words` counts marks of punctuation too.

    Lines are parted by line feeds, and blank ones left out; all shares are 0 where there is no other.
    """
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    if not lines:
        return dict.fromkeys((name for name, _ in FIELDS), 0.0)
    line_feeds = text.count("\n")
    distinct = set(lines)
    repeated = sum(map(len, lines)) - sum(map(len, distinct)) if len(distinct) < len(lines) else 0
    return {
        "punctuated_line_ratio": sum(line[-1] in END_MARKS for line in lines) / len(lines),
        "short_line_ratio": sum(len(line) <= SHORT_LINE for line in lines) / len(lines),
        "repeated_line_char_ratio": repeated / (len(text) - line_feeds),
        "line_feed_word_ratio": line_feeds / words if words else 0.0,
    }
