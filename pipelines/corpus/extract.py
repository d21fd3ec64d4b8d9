"""Main text of an HTML page, within limits that do not depend on how busy the machine is.

`fast` is Resiliparse, `quality` Trafilatura. Both take time that grows with the square of some counts; a page in
which these are beyond any real page is refused before it is parsed.
"""

import logging
import re
from typing import Any, Literal

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

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

TAG = re.compile(rb"""<[a-zA-Z](?:[^>=]*+=\s*+(?:"[^"]*+"|'[^']*+')?)*+[^>=]*+""")
QUOTED = re.compile(rb"""=\s*+(?:"[^"]*+"|'[^']*+')""")
BLOCK = re.compile(rb"<(/?)(div|article)\b|<")
BETWEEN = (b" ", b"\n", b"\t", b"\r", b"\x0b", b"\x0c", b"/")
"""What may part two attributes of a tag."""


def too_complex(page: bytes, extractor: Extractor) -> bool:
    """Return whether the page's form would take an extractor more than a few seconds."""
    tags = page.count(b"<")
    if tags > MAX_TAGS[extractor] or (len(page) > SAFE_CHARS and _attributes(page, tags) > MAX_ATTRIBUTES):
        return True
    opened = tags - page.count(b"</") if tags > SAFE_TAGS else 0
    if tags * opened <= MAX_NESTING and opened <= MAX_OPTIONS:
        return False
    lowered = page.lower()
    blocks = lowered.count(b"<div") + lowered.count(b"<article")
    return lowered.count(b"<option") > MAX_OPTIONS or (tags * blocks > MAX_NESTING and _nesting(lowered) > MAX_NESTING)


def _nesting(lowered: bytes) -> int:
    """Return the sum over all tags of the blocks that are open there."""
    open_blocks = total = 0
    for found in BLOCK.finditer(lowered):
        if found[2]:
            open_blocks = max(open_blocks + (-1 if found[1] else 1), 0)
        total += open_blocks
    return total


def _attributes(page: bytes, tags: int) -> int:
    """Return about how many attributes the richest tag has, or 0 where none can have many.

    A tag of many attributes is long without a `>`, or has many of them in quotes; one that hides its quoted `>` behind
    as many `<` is left to the limit in CPU time.
    """
    if page.count(b">") - tags <= MAX_ATTRIBUTES and not _is_long_without_end(page):
        return 0
    long = [tag for tag in TAG.findall(page) if len(tag) > 2 * MAX_ATTRIBUTES]
    return max((len(re.split(rb"[\s/]+", QUOTED.sub(b"= ", tag))) for tag in long), default=0)


def _is_long_without_end(page: bytes) -> bool:
    """Return whether as many words as a tag may have attributes stand anywhere without a `>` among them."""
    at = 0
    while len(page) - at > 2 * MAX_ATTRIBUTES:
        last = page.rfind(b">", at, at + 2 * MAX_ATTRIBUTES)
        if last < 0:
            last = page.find(b">", at)
            last = len(page) if last < 0 else last
            most = sum(page.count(mark, at, last) for mark in BETWEEN)  # counting marks is cheap, splitting is not
            if most >= MAX_ATTRIBUTES and len(page[at:last].split()) + page.count(b"/", at, last) > MAX_ATTRIBUTES:
                return True
        at = last + 1
    return False


def main_text(page: bytes, extractor: Extractor) -> str:
    """Return the main text of a page in UTF-8, paragraphs apart, or an empty string where it has none."""
    if extractor == "fast":
        tree = HTMLTree.parse_from_bytes(page, "utf-8")
        return str(
            extract_plain_text(tree, preserve_formatting=True, main_content=True, alt_texts=False, comments=False)
        ).strip()
    import trafilatura  # 0.4 s: only those who ask for it wait

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it reports every page without text
    html = page.decode("utf-8", "replace")
    found = trafilatura.extract(html, fast=True, include_comments=False, deduplicate=False)
    if not found and page.count(b"<") > PARSED_DEPTH:
        found = trafilatura.extract(_deep_tree(page), fast=True, include_comments=False, deduplicate=False)
    return (found or "").strip()


def _deep_tree(page: bytes) -> Any:
    """Return the tree of a page that may be nested up to 2,048 deep, which is more than libxml2 parses unasked."""
    from lxml.etree import ParserError
    from lxml.html import HTMLParser, document_fromstring

    parser = HTMLParser(huge_tree=True, remove_comments=True, remove_pis=True, encoding="utf-8")
    try:
        return document_fromstring(page, parser=parser)
    except ParserError:
        return None


def reason_and_text(page: bytes, extractor: Extractor) -> tuple[str, str]:
    """Return why the page, which is in UTF-8, is refused, or an empty reason and its main text."""
    return ("too_complex", "") if too_complex(page, extractor) else ("", main_text(page, extractor))
