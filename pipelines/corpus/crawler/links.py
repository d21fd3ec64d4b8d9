"""The links of a page, and what the page says about being kept and followed."""

import re
from dataclasses import dataclass

from resiliparse.parse.html import DocumentNode, HTMLTree

from pipelines.corpus.crawler.urls import MAX_CHARS, BadUrl, normalised
from pipelines.corpus.extract import too_complex

LINKS = "a[href], area[href], frame[src], iframe[src]"
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
    if too_complex(html, "fast"):
        return Links(noindex="noindex" in rules)
    document = HTMLTree.parse(html).document
    if document is None:
        return Links(noindex="noindex" in rules)
    for meta in document.query_selector_all("meta[name][content]"):
        if meta["name"].strip().lower() in ("robots", token):
            rules |= _directives(meta["content"])
    noindex = "noindex" in rules
    if "nofollow" in rules:
        return Links(noindex=noindex)
    found: dict[str, None] = {}
    bad = over = 0
    base = _base(document, url)
    for element in document.query_selector_all(LINKS):
        target = (element["href"] if element.hasattr("href") else element["src"]).strip()
        followed = not element.hasattr("rel") or "nofollow" not in element["rel"].lower().split()
        if not target or target.startswith("#") or not followed:
            continue
        if len(found) >= limit:
            over += 1
            continue
        try:
            found.setdefault(normalised(target[: MAX_CHARS + 1], base))
        except BadUrl:
            bad += 1
    return Links(tuple(found), bad, over, noindex)


def _base(document: DocumentNode, url: str) -> str:
    """Return what links are relative to: the first <base>, itself relative to the page, or the page."""
    element = document.query_selector("base[href]")
    try:
        return normalised(element["href"], url) if element else url
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
