"""The statistics behind C4's rules (Raffel et al. 2020, JMLR 21/140), as datatrove's `C4QualityFilter` defines them.

Nothing is cut here: the lines that C4 would retain are counted, and so are the sentences in them.
"""

import re
from typing import Any

import pyarrow as pa

from pipelines.corpus.words import count_sentences

END_MARKS = (".", "?", "!", '"', "'")
ELLIPSIS = "..."
LONGEST_WORD = 1000
MIN_WORDS_PER_LINE = 3
CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)

FIELDS: list[tuple[str, pa.DataType]] = [
    ("lines", pa.int64()),
    ("c4_lines", pa.int64()),
    ("c4_sentences", pa.int64()),
    ("c4_lorem_ipsum", pa.bool_()),
    ("c4_curly_bracket", pa.bool_()),
]


def c4_quality(text: str) -> dict[str, Any]:
    """Return the number of lines, the lines and sentences that C4 retains, and whether it refuses the document.

    As in the reference, "lorem ipsum" and a curly bracket count in lines that end like a sentence and have at least
    three words.
    """
    lines = text.splitlines()
    retained = sentences = 0
    lorem = curly = False
    for raw in lines:
        line = _sentence_line(raw)
        if line is None:
            continue
        lowered = line.lower()
        lorem = lorem or "lorem ipsum" in lowered
        if "javascript" in lowered:
            continue
        curly = curly or "{" in line
        if any(policy in lowered for policy in POLICIES):
            continue
        retained += 1
        sentences += count_sentences(line)
    return {
        "lines": len(lines),
        "c4_lines": retained,
        "c4_sentences": sentences,
        "c4_lorem_ipsum": lorem,
        "c4_curly_bracket": curly,
    }


def _sentence_line(raw: str) -> str | None:
    """Return the line without citations if it ends like a sentence and has words, none of them over-long, else None."""
    stripped = raw.strip()
    line = CITATION.sub("", stripped) if "[" in stripped else stripped
    if not line.endswith(END_MARKS) or line.endswith(ELLIPSIS):
        return None
    words = stripped.split()
    if len(words) < MIN_WORDS_PER_LINE:
        return None
    if len(stripped) > LONGEST_WORD and any(len(word) > LONGEST_WORD for word in words):
        return None
    return line
