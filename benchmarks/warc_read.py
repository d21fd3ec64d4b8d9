"""WARC reading against datatrove's WarcReader, and that no HTML response of a real crawl is lost.

The file that is timed holds the records of the real crawls, all types, and the article pages as Common Crawl stores
a page (request, response with its identified type, metadata), in rounds, each record in its own gzip member, until
7,000 HTML responses are in it. CPU seconds, ours and the peer's in turn, medians of five. The peer needs warcio,
python-magic and faust-cchardet. Give the folder of the public data as the argument.
"""

import gzip
import json
import re
import statistics
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import count
from pathlib import Path

from datatrove.pipeline.readers import WarcReader
from fastwarc.warc import ArchiveIterator, WarcRecordType
from loguru import logger
from support.claims import claim
from warcio.archiveiterator import ArchiveIterator as WarcioIterator
from warcio.exceptions import ArchiveLoadFailed

from pipelines.corpus.readers.crawl_pages import crawl_pages
from pipelines.corpus.readers.records import Limits, Record
from pipelines.corpus.readers.warc import RawRecord, raw_records

RUNS = 5
PAGES = 7_000
LIMITS = Limits(record=64_000_000, page=4_000_000)
RECORD_ID = re.compile(rb"(?mi)^(WARC-Record-ID: *)<[^>\r\n]*>")
CRAWLS = ("archive", "bad", "commoncrawl", "quirk", "revisits", "web-0", "web-1")
HEADER = (
    "WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Date: 2024-01-02T03:04:05Z\r\nWARC-Record-ID: <urn:uuid:0>\r\n"
    "Content-Length: {length}\r\nContent-Type: {mime}\r\nWARC-Target-URI: {url}\r\n{more}\r\n"
)
HTTP = (
    "HTTP/1.1 200 OK\r\nDate: Tue, 02 Jan 2024 03:04:05 GMT\r\nServer: nginx\r\nVary: Accept-Encoding\r\n"
    "Content-Type: text/html; charset=utf-8\r\nX-Crawler-Content-Length: 1\r\nContent-Length: {length}\r\n"
    "Cache-Control: max-age=600\r\nConnection: keep-alive\r\n\r\n"
)


def article_records(data: Path) -> Iterator[bytes]:
    """Yield the article pages as Common Crawl stores pages."""
    with tarfile.open(data / "extraction" / "article-extraction.tar.xz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".html.gz") else None
            if file is None:
                continue
            page = gzip.decompress(file.read())
            url = f"https://articles.example/{Path(member.name).name}"
            request = f"GET /{Path(member.name).name} HTTP/1.1\r\nHost: articles.example\r\nAccept: text/html\r\n\r\n"
            blocks = (
                ("request", "application/http; msgtype=request", "", request.encode()),
                (
                    "response",
                    "application/http; msgtype=response",
                    "WARC-Identified-Payload-Type: text/html\r\n",
                    HTTP.format(length=len(page)).encode() + page,
                ),
                ("metadata", "application/warc-fields", "", b"fetchTimeMs: 120\r\ncharset-detected: UTF-8\r\n"),
            )
            for kind, mime, more, block in blocks:
                yield HEADER.format(kind=kind, length=len(block), mime=mime, url=url, more=more).encode() + block


def real_records(data: Path) -> Iterator[bytes]:
    """Yield the whole records of the real crawls."""
    for name in CRAWLS:
        for record in raw_records(data / "crawl" / f"{name}.warc.gz", LIMITS.record):
            if isinstance(record, RawRecord):
                yield bytes(record.data[: record.end])


def build(data: Path, path: Path) -> tuple[int, int]:
    """Write the file to be timed and return its records and its decompressed bytes."""
    rounds = [*real_records(data), *article_records(data)]
    each = sum(b"WARC-Type: response" in found[:2000] and b"text/html" in found[:2000] for found in rounds)
    numbers = count()
    written = 0
    with path.open("wb") as file:
        for _ in range(-(-PAGES // each)):
            for found in rounds:
                fresh = b"\\1<urn:uuid:%s>" % str(uuid.UUID(int=next(numbers))).encode()
                record = RECORD_ID.sub(fresh, found, count=1) + b"\r\n\r\n"
                file.write(gzip.compress(record, 6, mtime=0))
                written += len(record)
    return next(numbers), written


def cpu_seconds(work: Callable[[], Iterable[object]]) -> tuple[float, int]:
    """Return the CPU seconds of going through what `work` yields, and how much that is."""
    started = time.process_time()
    found = sum(1 for _ in work())
    return time.process_time() - started, found


def html_responses(path: Path) -> set[str]:
    """Return the addresses of what FastWARC or warcio takes for an HTML page answered with 200 in a whole record."""
    found = set()
    with path.open("rb") as file:
        for record in ArchiveIterator(file, record_types=WarcRecordType.response, quirks_mode=True):
            whole = record.content_length == len(body := record.reader.read()) and body.strip()
            if whole and record.is_http and record.http_headers.status_code == 200 and _is_html(record):
                found.add(record.headers.get("WARC-Target-URI").strip("<>"))
    return found | set(_by_warcio(path))


def _is_html(record: object) -> bool:
    return (getattr(record, "http_content_type", "") or "").lower() in ("text/html", "application/xhtml+xml")


def _by_warcio(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        try:
            for record in WarcioIterator(file, arc2warc=True):
                headers = record.http_headers
                if record.rec_type != "response" or headers is None or headers.get_statuscode() != "200":
                    continue
                mime = (headers.get_header("Content-Type") or "").split(";")[0].strip().lower()
                body = record.content_stream().read()
                if mime in ("text/html", "application/xhtml+xml") and body.strip():
                    yield record.rec_headers.get_header("WARC-Target-URI").strip("<>")
        except (ArchiveLoadFailed, EOFError, OSError):
            return


def lost_pages(data: Path) -> dict[str, int]:
    """Return for each real crawl how many HTML responses our reader does not return."""
    lost = {}
    for path in sorted((data / "crawl").iterdir()):
        if ".wet" in path.name or path.name == "clipped.warc.gz":  # text alone; one record, which is cut
            continue
        ours = {item.url for item in crawl_pages(path, LIMITS) if isinstance(item, Record)}
        missing = html_responses(path) - ours
        print(f"{path.name}: {len(ours)} pages, lost {sorted(missing) or 'none'}")
        lost[path.name] = len(missing)
    return lost


def main(data: Path, folder: Path) -> int:
    """Measure, print the claims, and return 0 when all hold."""
    logger.disable("datatrove")
    path = folder / "crawl.warc.gz"
    records, size = build(data, path)
    print(f"{records} records, {size / 1e6:.0f} MB; datatrove {version('datatrove')}, warcio {version('warcio')}")
    ways: dict[str, Callable[[], Iterable[object]]] = {
        "records": lambda: raw_records(path, LIMITS.record),
        "datatrove": lambda: WarcReader(str(folder), glob_pattern=path.name)(),
        "pages": lambda: (item for item in crawl_pages(path, LIMITS) if isinstance(item, Record)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(RUNS):
        for name, work in ways.items():
            spent, found = cpu_seconds(work)
            seconds[name].append(spent)
            print(f"{name}: {found} in {spent:.2f} CPU seconds, {size / 1e6 / spent:.0f} MB/s")
    rate = {name: records / statistics.median(spent) for name, spent in seconds.items()}
    peer = rate["datatrove"]
    lost = lost_pages(data)
    claims = [
        claim("WARC records, whole and checked, a CPU second", rate["records"], 4 * peer, at_most=False, peer=peer),
        claim("the same, to decoded pages with their SHA-256", rate["pages"], peer, at_most=False, peer=peer),
        claim(f"HTML responses lost in {len(lost)} real crawls", sum(lost.values()), 0),
    ]
    print(json.dumps({"name": "warc_read", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"), Path(made)))
