"""Main text of an HTML page, within limits that do not depend on how busy the machine is.

`fast` is Resiliparse, `quality` Trafilatura. Both take time that grows with the square of some counts; a page in
which these are beyond any real page is refused before it is parsed.
"""

import logging
import re
from typing import Any, Literal

from resiliparse.extract.html2text import extract_plain_text

Extractor = Literal["fast", "quality"]

# Measured with Resiliparse 2.0.1: each limit keeps its own kind of page near one CPU second.
MAX_NESTING = 5_000_000
"""Tags times open blocks: 50,000 paragraphs below 500 nested blocks (25 million) take 4.5 s."""
MAX_OPTIONS = 10_000
"""Options: 40,000 of them in one select take 12.6 s."""
MAX_ATTRIBUTES = 10_000
"""Attributes of one tag: 100,000 take 50 s."""
MAX_TAGS = {"fast": 1_000_000, "quality": 50_000}
"""Tags of a page: Trafilatura takes 8 s for 200,000 line breaks."""
PARSED_DEPTH = 255
"""Nested tags up to which libxml2 parses a page by default; below them it sees nothing."""
SAFE_TAGS = 2_000
"""Below this many tags neither blocks nor options can be too many."""
SAFE_CHARS = 1 << 17
"""Below this length the attributes of one tag cost 3 s at the very worst."""

TAG = re.compile(r"""<[a-zA-Z](?:[^>=]*+=\s*+(?:"[^"]*+"|'[^']*+')?)*+[^>=]*+""")
QUOTED = re.compile(r"""=\s*+(?:"[^"]*+"|'[^']*+')""")
BLOCK = re.compile(r"<(/?)(div|article)\b|<", re.IGNORECASE)


def too_complex(html: str, extractor: Extractor) -> bool:
    """Return whether the page's form would take an extractor more than a few seconds."""
    tags = html.count("<")
    if tags > MAX_TAGS[extractor] or (len(html) > SAFE_CHARS and _attributes(html) > MAX_ATTRIBUTES):
        return True
    if tags < SAFE_TAGS:
        return False
    lowered = html.lower()
    blocks = lowered.count("<div") + lowered.count("<article")
    return lowered.count("<option") > MAX_OPTIONS or (tags * blocks > MAX_NESTING and _nesting(html) > MAX_NESTING)


def _nesting(html: str) -> int:
    """Return the sum over all tags of the blocks that are open there."""
    open_blocks = total = 0
    for found in BLOCK.finditer(html):
        if found[2]:
            open_blocks = max(open_blocks + (-1 if found[1] else 1), 0)
        total += open_blocks
    return total


def _attributes(html: str) -> int:
    """Return about how many attributes the richest tag has."""
    long = [tag for tag in TAG.findall(html) if len(tag) > 2 * MAX_ATTRIBUTES]
    return max((len(re.split(r"[\s/]+", QUOTED.sub("= ", tag))) for tag in long), default=0)


def main_text(html: str, extractor: Extractor) -> str:
    """Return the page's main text, paragraphs apart, or an empty string where it has none."""
    if extractor == "fast":
        return str(extract_plain_text(html, preserve_formatting=True, main_content=True, alt_texts=False)).strip()
    import trafilatura  # 0.4 s: only those who ask for it wait

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it reports every page without text
    text = trafilatura.extract(html, fast=True, include_comments=False, deduplicate=False)
    if not text and html.count("<") > PARSED_DEPTH:
        text = trafilatura.extract(_deep_tree(html), fast=True, include_comments=False, deduplicate=False)
    return (text or "").strip()


def _deep_tree(html: str) -> Any:
    """Return the tree of a page that may be nested up to 2,048 deep, which is more than libxml2 parses unasked."""
    from lxml.etree import ParserError
    from lxml.html import HTMLParser, document_fromstring

    parser = HTMLParser(huge_tree=True, remove_comments=True, remove_pis=True, encoding="utf-8")
    try:
        return document_fromstring(html.encode("utf-8", "replace"), parser=parser)
    except ParserError:
        return None


def reason_and_text(html: str, extractor: Extractor) -> tuple[str, str]:
    """Return why the page is refused, or an empty reason and its main text."""
    return ("too_complex", "") if too_complex(html, extractor) else ("", main_text(html, extractor))
