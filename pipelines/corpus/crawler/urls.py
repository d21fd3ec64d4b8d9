"""URLs in one form, so that a page has one name: and which of them a crawl may follow.

Normal form: http or https; host in lower case and Punycode, without a final dot; no default port, no fragment, no
dot segments; an empty path is `/`; percent-encoding in upper case, of unreserved characters undone, of others than
ASCII done; the query as it stands (an empty one is left out); at most 2,048 characters. A URL with credentials is
refused.
"""

import re
from collections.abc import Collection
from urllib.parse import urljoin

from yarl import URL

MAX_CHARS = 2_048
HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
STRIPPED = re.compile(r"[\t\r\n]")
SCHEMES = frozenset({"http", "https"})


class BadUrl(Exception):
    """A URL that is not crawled, with the reason as it is counted."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url!r}: {reason}")
        self.url, self.reason = url, reason


def normalised(text: str, base: str | None = None) -> str:
    """Return the normal form of a URL, taken relative to `base`; raise BadUrl where it cannot be crawled."""
    text = STRIPPED.sub("", text.strip(" \t\r\n\f"))
    if len(text) > MAX_CHARS:
        raise BadUrl(text[:80] + "…", "long_url")
    try:
        url = URL(urljoin(base, text) if base else text)
        if url.scheme not in SCHEMES:
            raise BadUrl(text, "bad_scheme")
        if url.raw_user is not None or url.raw_password is not None:
            raise BadUrl(text, "credentials")
        host = (url.raw_host or "").rstrip(".").lower()
        if not (HOST.fullmatch(host) or ":" in host) or len(host) > 253 or "%" in host or url.port == 0:
            raise BadUrl(text, "bad_url")
        url = url.with_host(host) if host != url.raw_host else url
        path = url.raw_path or "/"
        form = str(URL(str(url.origin()) + path + (f"?{url.raw_query_string}" if url.raw_query_string else "")))
    except (ValueError, UnicodeError) as error:
        raise BadUrl(text, "bad_url") from error
    if len(form) > MAX_CHARS:
        raise BadUrl(form[:80] + "…", "long_url")
    return form


def host_of(url: str) -> str:
    """Return the host of a normal URL."""
    return URL(url, encoded=True).raw_host or ""


def origin_of(url: str) -> str:
    """Return scheme, host and port of a normal URL, which is what a robots.txt speaks for."""
    return str(URL(url, encoded=True).origin())


class Scope:
    """Which hosts belong to a crawl."""

    def __init__(self, seeds: Collection[str], allowed: Collection[str], reach: str) -> None:
        self.reach = reach
        self.hosts = {_bare(host) for host in [*map(host_of, seeds), *allowed]}

    def covers(self, url: str) -> bool:
        """Say whether a normal URL's host is one of the crawl."""
        host = _bare(host_of(url))
        if self.reach == "any" or host in self.hosts:
            return True
        labels = host.split(".")
        return self.reach == "subdomains" and any(
            ".".join(labels[number:]) in self.hosts for number in range(1, len(labels))
        )


def _bare(host: str) -> str:
    return host.removeprefix("www.")
