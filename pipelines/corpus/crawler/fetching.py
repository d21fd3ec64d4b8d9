"""One request and its answer, within limits of time and bytes: what goes wrong has a name that is counted.

Redirects are not followed here and no connection is used twice, so that every request has its own checked address
and none is sent again behind the crawler's back.
"""

import asyncio
import ssl
import time
from collections.abc import Collection
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from pipelines.corpus.crawler.addresses import AddressRefused, CheckedResolver, Guard, Lookup
from pipelines.corpus.crawler.urls import host_of

ACCEPT = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1"
TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
"""Statuses after which a later try may go better."""
_reached: ContextVar[list[str]] = ContextVar("reached")


class Failure(Exception):
    """A request that gave no whole answer: why, and whether a later try may give one."""

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.again = reason, again


@dataclass(frozen=True)
class Answer:
    """A whole response, its body as it was sent but for the transfer encoding."""

    url: str
    status: int
    status_line: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    request: bytes
    address: str
    started: datetime
    seconds: float

    def header(self, name: str) -> str:
        """Return the values of a header, joined by commas, or an empty string."""
        wanted = name.lower().encode()
        return ", ".join(value.decode("latin-1") for key, value in self.headers if key.lower() == wanted)

    def wait_seconds(self) -> float:
        """Return for how long the server asks to be left alone, in seconds."""
        asked = self.header("Retry-After").strip()
        if asked.isascii() and asked.isdigit():
            return float(asked[:9])
        try:
            return max((parsedate_to_datetime(asked) - self.started).total_seconds(), 0.0)
        except (ValueError, TypeError):  # no date, or one without a zone
            return 0.0


@cache
def trusted() -> ssl.SSLContext:
    """Return the verifying context with the machine's certificates, which take 50 ms to load."""
    return ssl.create_default_context()


class Fetcher:
    """The one way to the network: an HTTP client that connects to checked addresses only."""

    def __init__(self, agent: str, timeout_seconds: float, guard: Guard, lookup: Lookup) -> None:
        self.guard = guard
        connector = aiohttp.TCPConnector(
            resolver=CheckedResolver(lookup, guard),
            use_dns_cache=False,
            force_close=True,
            limit=0,
            happy_eyeballs_delay=None,  # one address after the other, so that the last one is the one in use
            socket_factory=self._socket,
            ssl=trusted(),
        )
        self.session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            headers={"User-Agent": agent, "Accept": ACCEPT},
        )
        # aiohttp sends a GET once more by itself after a reset; its own test client turns that off in this way too.
        self.session._retry_connection = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    async def get(
        self, url: str, max_bytes: int, media_types: Collection[str] = (), *, cut: bool = False, encoding: str = "gzip"
    ) -> Answer:
        """Return the answer to a GET of a normal URL; raise Failure where there is no whole one.

        A body over `max_bytes` fails, or is cut there with `cut`. With `media_types`, the body of a 200 of another
        type is not read.
        """
        reached: list[str] = []
        _reached.set(reached)
        started, clock = datetime.now(UTC), time.monotonic()
        try:
            self._check_literal(url)
            asking = {"Accept-Encoding": encoding}
            place = URL(url, encoded=True)
            async with self.session.get(place, allow_redirects=False, headers=asking) as response:
                _check_head(response, max_bytes, media_types, cut)
                body = await _body(response, max_bytes, cut)
                return Answer(
                    url=url,
                    status=response.status,
                    status_line=_status_line(response),
                    headers=tuple(response.raw_headers),
                    body=body,
                    request=_request(response),
                    address=reached[-1] if reached else "",
                    started=started,
                    seconds=time.monotonic() - clock,
                )
        except (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            raise _failure(error) from error

    def _check_literal(self, url: str) -> None:
        """Check a host that is an address already; the client asks no resolver about it."""
        host = host_of(url)
        if ":" in host or host.rpartition(".")[2].isdigit():
            self.guard.check(host)

    def _socket(self, info: tuple[Any, ...]) -> Any:
        opened = self.guard.open_socket(info)
        _reached.get([]).append(str(info[4][0]))
        return opened


def _failure(error: Exception) -> Failure:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, AddressRefused):
            return Failure("private_address")
        cause = cause.__cause__
    if isinstance(error, TimeoutError):
        return Failure("timeout", again=True)
    if isinstance(error, aiohttp.ClientSSLError):
        return Failure("tls")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Failure("dns", again=True)
    if isinstance(error, aiohttp.ClientConnectorError):
        return Failure("connect", again=True)
    if isinstance(error, aiohttp.InvalidURL | ValueError):
        return Failure("bad_url")
    return Failure("broken", again=True)


def _check_head(response: aiohttp.ClientResponse, max_bytes: int, media_types: Collection[str], cut: bool) -> None:
    """Raise Failure where the head already says that the body is not wanted."""
    declared = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_types and response.status == 200 and declared and declared not in media_types:
        raise Failure("content_type")
    if not cut and (response.content_length or 0) > max_bytes:
        raise Failure("too_large")


async def _body(response: aiohttp.ClientResponse, max_bytes: int, cut: bool) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            if not cut:
                raise Failure("too_large")
            return bytes(body[:max_bytes])
    return bytes(body)


def _status_line(response: aiohttp.ClientResponse) -> bytes:
    version = response.version or aiohttp.HttpVersion11
    line = f"HTTP/{version.major}.{version.minor} {response.status} {response.reason or ''}".rstrip()
    return line.encode("utf-8", "surrogateescape")


def _request(response: aiohttp.ClientResponse) -> bytes:
    """Return the request's head as it was sent."""
    about = response.request_info
    lines = [f"{about.method} {about.url.raw_path_qs} HTTP/1.1", *(f"{k}: {v}" for k, v in about.headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
