"""Wikitext to plain text, by mwparserfromhell's syntax tree."""

import re

import mwparserfromhell
from mwparserfromhell.nodes import ExternalLink, Heading, HTMLEntity, Node, Tag, Text, Wikilink
from mwparserfromhell.wikicode import Wikicode

HEADING = "\0"
"""Marks a heading, as many as its level, until empty sections are left out; no XML can hold it."""
SKIPPED = frozenset(
    "ref references table gallery timeline score imagemap hiero templatestyles style script indicator graph mapframe "
    "maplink section categorytree inputbox".split()
)
MAGIC_WORD = re.compile(r"__[A-Z]{3,30}__")
EMPTIED = re.compile(r"[ \t]*\([ \t,;:\u2013-]*\)")
"""What is left of a parenthesis that held templates only."""


def plain_text(wikitext: str, hidden: list[str]) -> str:
    """Return the text that a reader sees: no templates, tables, references or pictures, and no empty section.

    `hidden` are the lower-case prefixes of links that show nothing: files, categories, other languages.
    """
    prefixes = frozenset(hidden)
    text = "".join(_shown(mwparserfromhell.parse(wikitext), prefixes))
    text = EMPTIED.sub("", MAGIC_WORD.sub("", text))
    lines = [" ".join(line.split()) for line in text.split("\n")]
    paragraphs = [part for part in re.split(r"\n{2,}", "\n".join(lines).strip("\n")) if part.strip()]
    return "\n\n".join(part.lstrip(HEADING).strip() for part in _with_content(paragraphs))


def _shown(code: Wikicode | None, hidden: frozenset[str]) -> list[str]:
    return [part for node in (code.nodes if code is not None else ()) for part in _node(node, hidden)]


def _node(node: Node, hidden: frozenset[str]) -> list[str]:
    """Return the text that one node shows; templates, their arguments and comments show none."""
    if isinstance(node, Text):
        return [str(node.value)]
    if isinstance(node, HTMLEntity):
        return [str(node.normalize())]
    if isinstance(node, Heading):
        title = "".join(_shown(node.title, hidden)).strip()
        return ["\n\n", HEADING * node.level, title, "\n\n"]
    if isinstance(node, Wikilink):
        prefix, colon, _ = str(node.title).partition(":")
        if colon and prefix.strip().lower() in hidden:
            return []
        return _shown(node.title if node.text is None else node.text, hidden)
    if isinstance(node, ExternalLink):
        return _shown(node.title, hidden) if node.brackets else [str(node.url)]
    return _tag(node, hidden) if isinstance(node, Tag) else []


def _tag(tag: Tag, hidden: frozenset[str]) -> list[str]:
    name = str(tag.tag).strip().lower()
    if name in SKIPPED:
        return []
    if name in ("br", "hr", "p", "div", "blockquote", "poem"):
        return ["\n", *_shown(tag.contents, hidden), "\n"]
    if name in ("li", "dt", "dd"):
        return ["- " if name == "li" else "", *_shown(tag.contents, hidden)]
    return _shown(tag.contents, hidden)


def _with_content(paragraphs: list[str]) -> list[str]:
    """Return the paragraphs without the headings of sections that hold no text."""
    kept: list[str] = []
    for part in reversed(paragraphs):
        level = len(part) - len(part.lstrip(HEADING))
        below = len(kept[-1]) - len(kept[-1].lstrip(HEADING)) if kept else 1
        if not level or (kept and (not below or below > level)):
            kept.append(part)
    return kept[::-1]
