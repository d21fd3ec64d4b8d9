"""Block lists of addresses: domains with their subdomains, patterns and words."""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from fnmatch import translate
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.artifacts.errors import UserError
from pipelines.corpus.filter import UrlRules

LONGEST_LINE = 2048
LONGEST_HOST = 1000
"""Characters of a host that is looked up and remembered; the DNS allows 253 bytes."""
NOWHERE = frozenset({"0.0.0.0", "127.0.0.1", "::", "::1"})  # noqa: S104 - what a hosts file sends a domain to
_DOMAIN = re.compile(r"[^\s/*@:\[\]]{1,253}")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_ABSOLUTE = re.compile(rf"{_SCHEME.pattern}|//")
_WORD_MARKS = re.compile(r"[\W_]+")


class BlockList:
    """The addresses that a config and its list file name. Raises UserError on a list that cannot be read."""

    def __init__(self, rules: UrlRules) -> None:
        listed = list(_read(rules.path)) if rules.path else []
        self._domains = {plain_host(entry) for entry in (*listed, *rules.domains) if not _is_pattern(entry)}
        patterns = [entry for entry in (*listed, *rules.patterns) if _is_pattern(entry)]
        patterns += [entry for entry in rules.patterns if not _is_pattern(entry)]
        self._patterns = _joined(_without_scheme(pattern.lower()) for pattern in patterns)
        self._words = frozenset(word.lower() for word in rules.words)

    def has_domain(self, url: str | None) -> bool:
        """Return whether the URL's host is a listed domain or below one."""
        if not self._domains or not url:
            return False
        labels = host_of(url).split(".")
        return any(".".join(labels[start:]) in self._domains for start in range(len(labels)))

    def has_pattern(self, url: str | None) -> bool:
        """Return whether a pattern matches the URL, without its scheme, as a whole."""
        return bool(self._patterns and url and self._patterns.match(_without_scheme(url.lower())))

    def has_word(self, url: str | None) -> bool:
        """Return whether a listed word stands in the URL between marks."""
        return bool(self._words and url) and not self._words.isdisjoint(_WORD_MARKS.split((url or "").lower()))


def host_of(url: str) -> str:
    """Return the host of a URL in lower case, an international one in its ASCII form; "" where there is none."""
    try:
        host = urlsplit(url if _ABSOLUTE.match(url.lower()) else f"//{url}").hostname or ""
    except ValueError:  # brackets that hold no IPv6 address
        return ""
    return plain_host(host) if len(host) <= LONGEST_HOST else ""


@lru_cache(1 << 12)
def plain_host(host: str) -> str:
    """Return a host name in the form in which names are compared: ASCII, lower case, no full stop at the end."""
    name = host.strip().strip(".").lower()
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def _is_pattern(entry: str) -> bool:
    return "/" in entry or "*" in entry


def _without_scheme(url: str) -> str:
    return _SCHEME.sub("", url, count=1)


def _joined(patterns: Iterable[str]) -> re.Pattern[str] | None:
    """Return one expression of all patterns; a star that has matched is never tried again, so the cost is linear."""
    escaped = [translate(pattern.replace("[", "[[]").replace("?", "[?]")) for pattern in sorted(set(patterns))]
    return re.compile("|".join(escaped)) if escaped else None


def check_list(path: Path) -> None:
    """Raise UserError where a line of a list file is no entry, or the file cannot be read."""
    deque(_read(path), maxlen=0)


def _read(path: Path) -> Iterator[str]:
    """Yield the domains and patterns of a list file."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), ""), 1):
                entry = re.split(r"\s#|^#", line, maxsplit=1)[0].split()
                if entry and entry[0] in NOWHERE:
                    entry = entry[1:]
                if not entry:
                    continue
                if (
                    len(entry) > 1
                    or len(line) > LONGEST_LINE
                    or not (_is_pattern(entry[0]) or _DOMAIN.fullmatch(entry[0]))
                ):
                    where = f"filter.urls.path: {str(path)!r}, line {number}"
                    raise UserError(f"{where}: {line[:60].strip()!r} is no entry; write one domain or pattern a line")
                yield entry[0]
    except OSError as error:
        raise UserError(f"filter.urls.path: {str(path)!r} cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"filter.urls.path: {str(path)!r} is not UTF-8; save it as UTF-8") from error
