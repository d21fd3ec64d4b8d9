"""Reading MediaWiki's XML dumps: every page is a record or is counted with a reason.

A dump is cut at its `<page>` and `</page>` tags, which its text cannot hold because it is escaped; so no page is larger
in memory than the limit, and a damaged place costs only its own pages. The offset is where the page begins in the
decompressed stream, the digest that of its XML, the URL the page's address on its wiki, the crawl time that of the
revision. Of a page's revisions in a dump of histories the latest is read.
"""

import re
from collections.abc import Iterator
from functools import cache
from html import unescape
from pathlib import Path
from urllib.parse import quote

from pipelines.corpus.readers.bzip import any_pieces
from pipelines.corpus.readers.inflate import Piece
from pipelines.corpus.readers.isolated import ChildDied, Isolated
from pipelines.corpus.readers.markup import BadXml, parsed_xml
from pipelines.corpus.readers.records import Dropped, Limits, Record, digest_of, storable, utc
from pipelines.corpus.readers.wikitext import plain_text

OPEN, CLOSE, END = b"<page>", b"</page>", b"</mediawiki>"
MAX_HEADER = 1 << 20
BASE = re.compile(r"<base>([^<]{1,2000})/[^/<]*</base>")
NAMESPACE = re.compile(r'<namespace key="(-?\d+)"[^>]*>([^<]{1,200})</namespace>')
UNQUOTED = "/:,()!*'@;$-._~"
HIDDEN = frozenset({-2, 6, 14})
"""Namespaces of which a link shows nothing: media, files, categories."""
ENGLISH = ("file", "image", "media", "category")
"""Their prefixes that every wiki knows beside those in its own language."""


def wiki_records(
    path: Path, namespaces: frozenset[int], cpu_seconds: int, limits: Limits
) -> Iterator[Record | Dropped]:
    """Yield the pages of a dump in order."""
    cutter = PageCutter(any_pieces(path), limits.record)
    reader: PageReader | None = None
    for offset, page in cutter.pages():
        reader = reader or PageReader(cutter.header, namespaces, cpu_seconds)
        yield Dropped(offset, page) if isinstance(page, str) else reader.record(offset, page)


class PageReader:
    """Turns the pages of one wiki into records, by what the dump's header says of the wiki."""

    def __init__(self, header: bytes, namespaces: frozenset[int], cpu_seconds: int) -> None:
        said = header.decode("utf-8", "replace")
        base = BASE.search(said)
        self._base = unescape(base[1]) if base else ""
        named = [unescape(name).lower() for key, name in NAMESPACE.findall(said) if int(key) in HIDDEN]
        self._hidden = sorted({*ENGLISH, *named})
        self._namespaces, self._cpu_seconds = namespaces, cpu_seconds

    def record(self, offset: int, page: bytes) -> Record | Dropped:
        """Return a page's latest text, or why the page has none."""
        try:
            root = parsed_xml(page)
        except BadXml:
            return Dropped(offset, "bad_xml")
        space = root.findtext("ns") or "0"
        if not space.lstrip("-").isdecimal() or int(space) not in self._namespaces:
            return Dropped(offset, "namespace")
        if root.find("redirect") is not None:
            return Dropped(offset, "redirect")
        title = root.findtext("title") or ""
        address = f"{self._base}/{quote(title.replace(' ', '_'), safe=UNQUOTED)}" if self._base else ""
        revision = max(root.iterfind("revision"), key=lambda found: utc(found.findtext("timestamp")), default=None)
        if revision is None or not (revision.findtext("text") or "").strip():
            return Dropped(offset, "no_text", url=address)
        if (revision.findtext("model") or "wikitext") != "wikitext":
            return Dropped(offset, "not_wikitext", url=address)
        try:
            text = _converter(self._cpu_seconds)(revision.findtext("text"), self._hidden)
        except ChildDied as died:
            return Dropped(offset, died.reason, url=address)
        if not text:
            return Dropped(offset, "no_text", url=address)
        return Record(
            offset=offset, digest=digest_of(page), url=address, crawl_time=utc(revision.findtext("timestamp")),
            content=storable(f"{title}\n\n{text}"), is_html=False,
        )  # fmt: skip


@cache
def _converter(cpu_seconds: int) -> Isolated:
    return Isolated(plain_text, cpu_seconds)


class PageCutter:
    """Cuts a dump into pages, and keeps what stands before the first of them."""

    def __init__(self, source: Iterator[Piece], max_bytes: int) -> None:
        self.header = b""
        self._source, self._max_bytes = source, max_bytes
        self._held, self._position, self._searched = bytearray(), 0, 0
        self._start: int | None = None
        """Where the open page begins; it is too large once that is no longer held."""
        self._any = self._ended = False

    def pages(self) -> Iterator[tuple[int, bytes | str]]:
        """Yield where each page begins and its bytes, or why they are not to be had."""
        for piece in self._source:
            self._held += piece.data
            yield from self._whole()
            if piece.broken:
                yield self._position if self._start is None else self._start, "damaged_compression"
                self._let_go(len(self._held))
                self._start, self._any = None, True
        if self._start is not None:
            yield self._start, "truncated"
        elif not self._any:
            yield 0, "not_a_dump" if self._position or self._held else "empty_file"
        elif not self._ended:
            yield self._position, "truncated"

    def _whole(self) -> Iterator[tuple[int, bytes | str]]:
        while self._start is not None or self._begin():
            end = self._held.find(CLOSE, self._searched)
            again = self._held.find(OPEN, self._searched, end if end >= 0 else len(self._held))
            if again >= 0:
                yield self._start or 0, "truncated"
                self._let_go(again)
                self._start = None
            elif end >= 0:
                size = end + len(CLOSE)
                whole = self._start == self._position and size <= self._max_bytes
                yield self._start or 0, bytes(self._held[:size]) if whole else "too_large"
                self._let_go(size)
                self._start = None
            else:
                if len(self._held) > self._max_bytes:
                    self._let_go(len(self._held) - len(CLOSE))
                begun = len(OPEN) if self._start == self._position else 0
                self._searched = max(len(self._held) - len(CLOSE) + 1, begun)
                return

    def _begin(self) -> bool:
        """Let go what stands before the next page; return whether one begins."""
        at = self._held.find(OPEN)
        before = at if at >= 0 else max(len(self._held) - len(END) + 1, 0)
        self._ended = at < 0 and (self._ended or END in self._held)
        if not self._any and len(self.header) < MAX_HEADER:
            self.header += self._held[:before]
        self._let_go(before)
        if at < 0:
            return False
        self._any, self._start, self._searched = True, self._position, len(OPEN)
        return True

    def _let_go(self, count: int) -> None:
        del self._held[:count]
        self._position += count
