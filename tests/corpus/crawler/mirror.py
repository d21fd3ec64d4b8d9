"""A loopback mirror of Common Crawl: ranged requests over real files, with the faults that real servers have."""

import gzip
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.corpus.crawler.sources import CommonCrawlSource
from tests.corpus.crawler.site import Handler, Site, serving

CRAWL = "CC-MAIN-2026-30"
RANGE = re.compile(r"bytes=(\d+)-(\d+)")


def path_of(number: int, kind: str = "warc", segment: str = "1770000000000.12") -> str:
    return f"crawl-data/{CRAWL}/segments/{segment}/{kind}/CC-MAIN-{number:05d}.warc{'.wet' * (kind == 'wet')}.gz"


@dataclass
class Mirror:
    """The server's files by path. `fault` sees each request first; it may answer itself and then returns True."""

    files: dict[str, bytes]
    fault: Callable[["Mirror", Handler, str, int], bool] = lambda mirror, handler, path, start: False
    ranges: list[tuple[str, int, int]] = field(default_factory=list)
    """What was sent: path, first byte, bytes."""
    tagged: bool = True
    site: Site | None = None

    def __contains__(self, path: str) -> bool:
        return True

    def get(self, path: str, default: object) -> Callable[[Handler], None]:
        return lambda handler: self.send(handler, path.lstrip("/"))

    def tag(self, path: str) -> str:
        return f'"{hashlib.sha256(self.files[path]).hexdigest()[:32]}-2"'

    def send(self, handler: Handler, path: str) -> None:
        asked = RANGE.fullmatch(handler.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if self.fault(self, handler, path, start):
            return
        if path not in self.files:
            handler.send_error(404)
            return
        body, tag = self.files[path], self.tag(path)
        same = handler.headers.get("If-Range", tag) == tag
        if asked and same and start >= len(body):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(body)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        stop = min(int(asked[2]) + 1, len(body)) if asked and same else len(body)
        start = start if asked and same else 0
        self.head(handler, path, start, stop)
        self.body(handler, path, start, stop)

    def head(self, handler: Handler, path: str, start: int, stop: int) -> None:
        """Send the head of a range, or of the whole."""
        body = self.files[path]
        handler.send_response(206 if ("Range" in handler.headers and stop - start < len(body)) or start else 200)
        handler.send_header("Content-Length", str(stop - start))
        handler.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(body)}")
        if self.tagged:
            handler.send_header("ETag", self.tag(path))
        handler.end_headers()

    def body(self, handler: Handler, path: str, start: int, stop: int) -> None:
        """Send the bytes and note them."""
        self.ranges.append((path, start, stop - start))
        handler.wfile.write(self.files[path][start:stop])

    def sent(self, path: str) -> int:
        """How many bytes of a file were sent in all."""
        return sum(count for name, _, count in self.ranges if name == path)


@contextmanager
def mirroring(*names: str, contents: list[bytes], kind: str = "warc", **fields: Any) -> Iterator[tuple[Mirror, str]]:
    """Yield the mirror and its URL; `contents` are the files of a crawl, listed in its paths file."""
    paths = list(names) or [path_of(number, kind) for number in range(len(contents))]
    files = dict(zip(paths, contents, strict=True))
    files[f"crawl-data/{CRAWL}/{kind}.paths.gz"] = gzip.compress("".join(f"{path}\n" for path in paths).encode())
    mirror = Mirror(files, **fields)
    with serving({}) as site:
        site.pages = mirror  # type: ignore[assignment]
        mirror.site = site
        yield mirror, site.url("")


def source(url: str, **fields: Any) -> CommonCrawlSource:
    settings: dict[str, Any] = {
        "first_wait_seconds": 0,
        "max_wait_seconds": 0,
        "timeout_seconds": 5,
        "range_bytes": 65_536,
    }
    return CommonCrawlSource(crawl=CRAWL, base_url=url, **{"max_files": None, **settings, **fields})


class Drops:
    """Closes the connection after so many bytes, as long as it has any drops left."""

    def __init__(self, after: int, times: int) -> None:
        self.after, self.times = after, times

    def __call__(self, mirror: Mirror, handler: Handler, path: str, start: int) -> bool:
        if not self.times or not path.endswith(".warc.gz"):
            return False
        self.times -= 1
        stop = len(mirror.files[path])
        mirror.head(handler, path, start, stop)
        mirror.body(handler, path, start, min(start + self.after, stop))
        handler.close_connection = True
        return True


def slow(mirror: Mirror, handler: Handler, path: str, start: int) -> bool:
    """Take a moment for each request, so that a kill meets a download under way."""
    time.sleep(0.05)
    return False


def real_files(shared_data: Path) -> list[bytes]:
    return [(shared_data / "crawl" / f"web-{number}.warc.gz").read_bytes() for number in range(2)]
