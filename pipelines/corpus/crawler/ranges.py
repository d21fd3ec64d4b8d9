"""Parts of remote files: by HTTP ranges, or from any store that fsspec opens, S3 before all."""

import re
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import fsspec
import httpx

from pipelines.artifacts.errors import StageFailed, UserError

CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
EMPTY_RANGE = re.compile(r"bytes \*/(\d{1,18})")
TRY_AGAIN = frozenset({403, 408, 425, 429, 500, 502, 503, 504})
"""Statuses that pass; Common Crawl answers 403 and 503 to those who ask too fast."""
BLOCK = 1 << 20


class Interrupted(Exception):
    """A range did not come whole; a later try may go better."""

    def __init__(self, cause: str, wait_seconds: float = 0.0) -> None:
        super().__init__(cause)
        self.wait_seconds = wait_seconds


@dataclass(frozen=True)
class Part:
    """Some bytes of a file, as they arrive."""

    tag: str
    """What tells this version of the file from others; empty where the store has no such thing."""
    size: int | None
    """Bytes of the whole file, where the store says it."""
    start: int
    chunks: Iterator[bytes]


class Remote(Protocol):
    """A place that files are read from."""

    def part(self, path: str, start: int, stop: int, tag: str) -> AbstractContextManager[Part]:
        """Return the bytes from `start` to `stop`; the file from its beginning where it is no longer of this `tag`."""
        ...

    def close(self) -> None:
        """Let connections go."""
        ...


def open_remote(base_url: str, timeout_seconds: float) -> "Connection":
    """Return a connection to the store at this URL; raise UserError where a library for it is missing."""
    if base_url.startswith(("http://", "https://")):
        return Connection(HttpRemote(base_url, timeout_seconds))
    return Connection(FileSystemRemote(base_url))


class Connection:
    """A remote store, open for the time of a block."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    def __enter__(self) -> Remote:
        return self.remote

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remote.close()


class HttpRemote:
    """Ranges by HTTP. Redirects are not followed: the store of a base URL is where it says."""

    def __init__(self, base_url: str, timeout_seconds: float) -> None:
        self.base_url = base_url.rstrip("/")
        headers = {"Accept-Encoding": "identity", "User-Agent": "gristmill"}
        self.client = httpx.Client(timeout=timeout_seconds, headers=headers, follow_redirects=False)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    @contextmanager
    def part(self, path: str, start: int, stop: int, tag: str) -> Iterator[Part]:
        """Yield the range; raise Interrupted on what may pass, StageFailed on what will not."""
        url = f"{self.base_url}/{path}"
        headers = {"Range": f"bytes={start}-{stop - 1}"} | ({"If-Range": tag} if tag and start else {})
        try:
            with self.client.stream("GET", url, headers=headers) as response:
                yield self._part(response, url, start)
        except httpx.TransportError as error:
            raise Interrupted(f"{type(error).__name__}: {error}") from error

    def _part(self, response: httpx.Response, url: str, start: int) -> Part:
        tag = response.headers.get("ETag", "")
        tag = response.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
        if response.status_code == 206:
            found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if not found or int(found[1]) != start:
                raise Interrupted(f"the server sent the range {response.headers.get('Content-Range')!r}")
            # Without a block size each piece comes as it arrives, so that a drop costs none that was there.
            return Part(tag, int(found[3]), start, response.iter_raw())
        if response.status_code == 200:
            length = response.headers.get("Content-Length", "")
            size = int(length) if length.isascii() and length.isdigit() else None
            return Part(tag, size, 0, response.iter_raw())
        if response.status_code == 416:
            empty = EMPTY_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if empty:
                return Part(tag, int(empty[1]), start, iter(()))
            raise Interrupted("status 416")
        if response.status_code in TRY_AGAIN:
            asked = response.headers.get("Retry-After", "")
            raise Interrupted(f"status {response.status_code}", float(asked) if asked.isdecimal() else 0.0)
        raise StageFailed(f"{url} answers {response.status_code}; check ingest.source.crawl, paths and base_url")


class FileSystemRemote:
    """Ranges by fsspec."""

    def __init__(self, base_url: str) -> None:
        scheme = base_url.partition("://")[0]
        options: dict[str, Any] = {"anon": True} if scheme == "s3" else {}
        try:
            self.files, self.root = fsspec.core.url_to_fs(base_url, **options)
        except (ImportError, ValueError) as error:
            needed = "install s3fs" if scheme == "s3" else "give an https:// or s3:// URL"
            raise UserError(f"ingest.source.base_url: {base_url!r} cannot be read ({error}); {needed}") from error

    def close(self) -> None:
        """Hold nothing open between two ranges."""

    @contextmanager
    def part(self, path: str, start: int, stop: int, tag: str) -> Iterator[Part]:
        """Yield the range; raise Interrupted on what may pass, StageFailed where there is no such file."""
        name = f"{self.root.rstrip('/')}/{path}"
        try:
            self.files.invalidate_cache()
            about = self.files.info(name)
            found = _tag(about)
            size = int(about["size"])
            at = start if found == tag or not start else 0
            with closing(self._chunks(name, at, min(stop, size))) as chunks:
                yield Part(found, size, at, chunks)
                if _tag(self.files.info(name)) != found:
                    raise Interrupted("the file changed while it was read")
        except FileNotFoundError as error:
            raise StageFailed(f"{name} is not there; check ingest.source.crawl, paths and base_url") from error
        except OSError as error:
            raise Interrupted(f"{type(error).__name__}: {error}") from error

    def _chunks(self, name: str, start: int, stop: int) -> Generator[bytes, None, None]:
        for at in range(start, stop, BLOCK):
            yield self.files.cat_file(name, start=at, end=min(at + BLOCK, stop))


def _tag(about: dict[str, Any]) -> str:
    """Return what fsspec tells of a file's version."""
    return next((str(about[name]) for name in ("ETag", "LastModified", "mtime", "created") if about.get(name)), "")
