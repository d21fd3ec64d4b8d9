"""The corpus as a crawl: HTML pages of the documented objects, in WARC files that any reader of Common Crawl takes.

A page shows a module or a class. An object outside the training split has no section on any page; its name may stand
there, where another object mentions it. No clock enters: every record carries one fixed date.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from fastwarc.stream_io import GzipWriter
from fastwarc.warc import WarcRecord, WarcRecordType

from pipelines.artifacts.work import atomic_file
from pipelines.corpus.documented.docstring_html import to_html
from pipelines.corpus.documented.harvest import read_split
from pipelines.corpus.documented.objects import DocObject

SITE = "https://docs.example"
CRAWL_DATE = "2000-01-01T00:00:00Z"
PAGES_PER_FILE = 1000
MAX_PAGE_CHARS = 200_000
"""Docstrings on one page; what is left of a module goes on another, so that no page nears the limits of a reader."""

STYLE = "body{font:16px/1.5 sans-serif;margin:0 auto;max-width:60rem}nav ul{columns:2}pre{background:#f4f4f4}"


def write_crawl(objects: Path, crawl: Path, out: Path) -> list[Path]:
    """Write the pages of an `objects` output's training split as `docs-NNNNN.warc.gz` in `crawl`; return the files."""
    written: list[Path] = []
    pages = render_pages(read_split(objects / "objects.parquet", "train"))
    for number, group in groupby(enumerate(pages), key=lambda item: item[0] // PAGES_PER_FILE):
        path = crawl / f"docs-{number:05d}.warc.gz"
        with atomic_file(path, out) as fresh, fresh.open("wb") as file:
            _write_records(file, path.name, (page for _, page in group))
        written.append(path)
    return written


def render_pages(objects: Iterable[DocObject]) -> Iterator[tuple[str, str]]:
    """Yield the URL and the HTML of each page; objects come sorted by package and module."""
    for (package, module), group in groupby(objects, key=lambda found: (found.package, found.module)):
        pages: dict[str, list[DocObject]] = {}
        for found in group:
            pages.setdefault(found.page, []).append(found)
        links = {name: _address(package, module, name) for name in sorted(pages)}
        for name, members in pages.items():
            for number, part in enumerate(_parts(members)):
                address = links[name] if number == 0 else f"{links[name].removesuffix('.html')}-{number + 1}.html"
                yield f"{SITE}{address}", render_page(package, name, part, links)


def _address(package: str, module: str, page: str) -> str:
    """Return a page's path; a class has a folder of its own, since a module may have the same dotted name."""
    return f"/{package}/{module}{page.removeprefix(module).replace('.', '/', 1)}.html"


def _parts(members: list[DocObject]) -> Iterator[list[DocObject]]:
    part: list[DocObject] = []
    size = 0
    for found in members:
        if part and size + len(found.docstring) > MAX_PAGE_CHARS:
            yield part
            part, size = [], 0
        part.append(found)
        size += len(found.docstring)
    yield part


def render_page(package: str, name: str, members: list[DocObject], links: Mapping[str, str]) -> str:
    """Return the HTML page of a module or class: a section an object, with `links` to the module's pages."""
    nearby = "".join(f'<li><a href="{escape(to)}">{escape(other)}</a></li>' for other, to in links.items())
    sections = "\n".join(_section(found, name) for found in members)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(name)} - {escape(package)} documentation</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><nav><a href="{SITE}/">Documentation</a> <a href="{SITE}/{escape(package)}/">{escape(package)}</a>'
        '<form action="/search"><input name="q" placeholder="Search the docs"><button>Go</button></form></nav></header>'
        f"\n<nav><h2>Table of contents</h2><ul>{nearby}</ul></nav>\n<main>\n<article>\n"
        f"<h1>{escape(name)}</h1>\n{sections}\n</article>\n</main>\n<footer><p>Built from the package's docstrings.</p>"
        '<p><a href="/privacy">Privacy</a> <a href="/terms">Terms</a> <a href="#">Back to top</a></p></footer>\n'
        "</body>\n</html>\n"
    )


def _section(found: DocObject, page: str) -> str:
    heading = "" if found.name == page else f"<h2>{escape(found.name)}</h2>\n"
    called = "" if found.kind == "module" else f"<p><code>{escape(found.signature)}</code></p>\n"
    return f'<section id="{escape(found.name)}">\n{heading}{called}{to_html(found.docstring)}\n</section>'


def _write_records(file: BinaryIO, name: str, pages: Iterable[tuple[str, str]]) -> None:
    writer = GzipWriter(file, compression_level=6)
    about = f"software: gristmill\r\nformat: WARC File Format 1.1\r\nfilename: {name}\r\n".encode()
    _write_record(writer, WarcRecordType.warcinfo, f"{SITE}/{name}", "application/warc-fields", about)
    for url, page in pages:
        body = page.encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
        kind = "application/http;msgtype=response"
        _write_record(writer, WarcRecordType.response, url, kind, head.encode() + body)
    writer.flush()


def _write_record(writer: GzipWriter, kind: WarcRecordType, url: str, content_type: str, content: bytes) -> None:
    record = WarcRecord()
    record.init_headers(kind, record_urn=f"uuid:{uuid.uuid5(uuid.NAMESPACE_URL, url)}".encode())
    record.headers["WARC-Date"] = CRAWL_DATE
    if kind == WarcRecordType.response:
        record.headers["WARC-Target-URI"] = url
    record.headers["Content-Type"] = content_type
    record.set_bytes_content(content)
    record.write(writer, checksum_data=True)
    writer.finish()  # a gzip member a record, so that a reader can seek
