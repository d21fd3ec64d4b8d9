"""Reading saved web pages: a file is a page.

The offset is 0 and the digest is that of the file's bytes. The URL is the one that a browser wrote when it saved the
page (`<!-- saved from url=… -->`), else the canonical link of the page, else empty. The crawl time is empty: a file's
time is when it was copied, not when it was crawled.
"""

import re
from html import unescape
from pathlib import Path

from resiliparse.parse.encoding import detect_mime

from pipelines.corpus.readers.http_page import HTML, TEXTUAL, decoded
from pipelines.corpus.readers.records import REPLACEMENT, Dropped, Limits, Record, digest_of, storable
from pipelines.corpus.readers.whole_file import is_binary, read_whole

HEAD = 1 << 15
"""Characters in which a page says its own address; the head of a real page ends far earlier or never says it."""
SAVED = re.compile(r"<!--\s*saved from url=\(\d+\)(https?://[^\s>]{1,2000})", re.IGNORECASE)
LINK = re.compile(r"<link\b[^<>]{0,2000}>", re.IGNORECASE)
CANONICAL = re.compile(r"""\brel\s*=\s*["']?canonical\b""", re.IGNORECASE)
HREF = re.compile(r"""\bhref\s*=\s*["']?(https?://[^\s"'<>]{1,2000})""", re.IGNORECASE)


def html_record(path: Path, limits: Limits) -> Record | Dropped:
    """Return the page that a file holds, decoded as a crawl's pages are."""
    body = read_whole(path, limits.page)
    if isinstance(body, Dropped):
        return body
    if detect_mime(body[:4096]) not in HTML | TEXTUAL or (b"\0" not in body[:4096] and is_binary(body)):
        return Dropped(0, "mislabelled")
    html = decoded(body, None).replace("\0", REPLACEMENT)
    return Record(offset=0, digest=digest_of(body), url=own_url(html), crawl_time="", content=html, is_html=True)


def own_url(html: str) -> str:
    """Return the address that a page says it has, or an empty string."""
    head = html[:HEAD]
    saved = SAVED.search(head)
    if saved:
        return storable(saved[1])
    for link in LINK.findall(head):
        href = HREF.search(link) if CANONICAL.search(link) else None
        if href:
            return storable(unescape(href[1]))
    return ""
