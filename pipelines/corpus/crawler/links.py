"""The links of a page, and what the page says about being kept and followed."""

import re
from dataclasses import dataclass
from itertools import islice

from resiliparse.parse.html import ElementNode, HTMLTree

from pipelines.corpus.crawler.urls import MAX_CHARS, BadUrl, normalised
from pipelines.corpus.extract import too_complex

LINKS = {"a": "href", "area": "href", "frame": "src", "iframe": "src"}
MAX_NODES = 200_000
"""Nodes of a page that are looked at, about a second's worth; a page of 4 MB seldom has 50,000."""
HEADER_AGENT = re.compile(r"^\s*([a-z0-9_-]+)\s*:", re.IGNORECASE)
VALUED = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"})


@dataclass(frozen=True)
class Links:
    """Normal URLs in the order of the page, each once."""

    urls: tuple[str, ...] = ()
    bad: int = 0
    """Links that no crawl follows: other schemes, credentials, no URL at all."""
    over: int = 0
    """Links beyond the limit."""
    noindex: bool = False


def links_of(html: str, url: str, token: str, header: str, limit: int) -> Links:
    """Return the links of the page at `url`; none where it says nofollow or is too complex to parse.

    `header` is the value of X-Robots-Tag; rules for the crawler called `token` and for all crawlers hold.
    """
    rules = header_rules(header, token)
    document = None if too_complex(html.encode("utf-8", "replace"), "fast") else HTMLTree.parse(html).document
    if document is None:
        return Links(noindex="noindex" in rules)
    targets: list[str] = []
    base = ""
    # Not by a selector: walking the list that it gives takes time with the square of its length (2,000 links: 13 s).
    for node in islice(document, MAX_NODES):
        if not isinstance(node, ElementNode):
            continue
        tag = node.tag
        if tag in LINKS:
            if "nofollow" not in (node.getattr("rel") or "").lower().split():
                targets.append((node.getattr(LINKS[tag]) or "").strip())
        elif tag == "base":
            base = base or node.getattr("href") or ""
        elif tag == "meta" and (node.getattr("name") or "").strip().lower() in ("robots", token):
            rules |= _directives(node.getattr("content") or "")
    if "nofollow" in rules:
        return Links(noindex="noindex" in rules)
    found, bad, over = _followed(targets, _base(base, url), limit)
    return Links(tuple(found), bad, over, "noindex" in rules)


def _followed(targets: list[str], base: str, limit: int) -> tuple[dict[str, None], int, int]:
    """Return the first `limit` URLs, how many are bad, and how many are over the limit."""
    found: dict[str, None] = {}
    bad = over = 0
    for target in targets:
        if not target or target.startswith("#"):
            continue
        if len(found) >= limit:
            over += 1
            continue
        try:
            found.setdefault(normalised(target[: MAX_CHARS + 1], base))
        except BadUrl:
            bad += 1
    return found, bad, over


def _base(href: str, url: str) -> str:
    """Return what links are relative to: the first <base>, itself relative to the page, or the page."""
    try:
        return normalised(href, url) if href else url
    except BadUrl:
        return url


def header_rules(value: str, token: str) -> set[str]:
    """Return the directives of X-Robots-Tag that hold for `token`; `agent: rule` holds for that agent alone."""
    rules: set[str] = set()
    agent = ""
    for part in value.split(","):
        named = HEADER_AGENT.match(part)
        if named and named[1].lower() not in VALUED:
            agent, part = named[1].lower(), part[named.end() :]
        if agent in ("", token):
            rules |= _directives(part)
    return rules


def _directives(content: str) -> set[str]:
    found = {word.strip().lower() for word in content.replace(";", ",").split(",")}
    return found | ({"noindex", "nofollow"} if "none" in found else set())
