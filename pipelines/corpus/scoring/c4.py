"""The statistics behind C4's rules (Raffel et al. 2020, JMLR 21/140), as datatrove's C4 filters define them.

Nothing is cut here: the lines that C4 would retain are counted with the sentences in them, and so are those that it
would remove, by the first reason for it.
"""

import re
from typing import Any

import pyarrow as pa

from pipelines.corpus.scoring.words import count_sentences

END_MARKS = (".", "?", "!", '"', "'")
ELLIPSIS = "..."
LONGEST_WORD = 1000
MIN_WORDS_PER_LINE = 3
PARAGRAPHS = 3
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
    ("c4_javascript_lines", pa.int64()),
    ("c4_policy_lines", pa.int64()),
    ("c4_paragraph_length", pa.int64()),
]


def c4_quality(text: str) -> dict[str, Any]:
    """Return the number of lines, the lines and sentences that C4 retains, and whether it refuses the document.

    As in the reference, "lorem ipsum", a curly bracket, JavaScript and policies count in lines that end like a
    sentence, have at least three words and none of more than 1,000 characters; a line on both JavaScript and a policy
    counts as the former. `c4_paragraph_length` is the length of the third longest line (mC4), 0 where there is none.
    """
    lines = text.splitlines()
    retained, found = _retained(text, lines)
    lengths = sorted(map(len, text.split("\n")), reverse=True)
    return {
        "lines": len(lines),
        "c4_lines": len(retained),
        "c4_sentences": count_sentences("\n".join(retained)),
        **found,
        "c4_paragraph_length": lengths[PARAGRAPHS - 1] if len(lengths) >= PARAGRAPHS else 0,
    }


def retained_lines(text: str) -> list[str]:
    """Return the lines that C4 retains, without citations."""
    return _retained(text, text.splitlines())[0]


def _retained(text: str, lines: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the lines that C4 retains, and what it finds in the lines that end like a sentence."""
    found = {"c4_lorem_ipsum": False, "c4_curly_bracket": False, "c4_javascript_lines": 0, "c4_policy_lines": 0}
    candidates = [line for raw in lines if (line := _sentence_line(raw)) is not None]
    lowered = (CITATION.sub("", text) if "[" in text else text).lower()
    policies = [policy for policy in POLICIES if policy in lowered]
    if not policies and not any(sign in lowered for sign in ("lorem ipsum", "javascript", "{")):
        return candidates, found  # most documents: their lines need not be looked at one by one
    retained = []
    for line in candidates:
        small = line.lower()
        found["c4_lorem_ipsum"] |= "lorem ipsum" in small
        if "javascript" in small:
            found["c4_javascript_lines"] += 1
            continue
        found["c4_curly_bracket"] |= "{" in line
        if any(policy in small for policy in policies):
            found["c4_policy_lines"] += 1
            continue
        retained.append(line)
    return retained, found


def _sentence_line(raw: str) -> str | None:
    """Return the line without citations if it ends like a sentence and has words, none of them over-long, else None."""
    stripped = raw.strip()
    line = CITATION.sub("", stripped) if "[" in stripped else stripped
    if not line.endswith(END_MARKS) or line.endswith(ELLIPSIS):
        return None
    if len(stripped.split(None, MIN_WORDS_PER_LINE - 1)) < MIN_WORDS_PER_LINE:
        return None
    if len(stripped) > LONGEST_WORD and max(map(len, stripped.split())) > LONGEST_WORD:
        return None
    return line
