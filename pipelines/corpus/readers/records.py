"""What a reader yields: records that may become documents, and those that were dropped, each with its reason."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
SURROGATE = re.compile("[\ud800-\udfff]")
MAX_IDENTIFIER = 200
"""Characters of a record's identifier; a UUID's have 45, a header could hold 65,000."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record with text in it: a page of HTML that is still to be extracted, or plain text."""

    offset: int
    digest: str
    url: str
    crawl_time: str
    content: str
    is_html: bool
    licence: str = ""
    """An SPDX identifier, or the source's own words; only kinds of source that state licences have one."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A record that becomes no document, or `count` neighbouring rows that could not be told apart."""

    offset: int
    reason: str
    count: int = 1
    skipped_bytes: int = 0
    """Bytes that were passed over to find the next record, where a record's own length could not be trusted."""
    url: str = ""
    """The record's address, where it was read before the record was lost."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes above which a record is dropped, in bytes."""

    record: int
    page: int


def digest_of(payload: bytes) -> str:
    """Return the digest of a record's payload as a document's provenance gives it."""
    return f"sha256:{hashlib.sha256(payload).hexdigest()}"


def storable(text: str) -> str:
    """Return the text with NUL and lone surrogates, which UTF-8 or a parser cannot carry, as U+FFFD."""
    text = text.replace("\0", REPLACEMENT)
    try:
        text.encode()
    except UnicodeEncodeError:
        return SURROGATE.sub(REPLACEMENT, text)
    return text


def short(identifier: str) -> str:
    """Return what stands for a record's identifier in memory: itself, or a digest where it is too long for one."""
    return identifier if len(identifier) <= MAX_IDENTIFIER else digest_of(identifier.encode("utf-8", "replace"))


def utc(moment: object) -> str:
    """Return an ISO 8601 moment in UTC to the second, or an empty string for what is none."""
    if isinstance(moment, list | dict):  # may nest deeper than Python can print
        return ""
    try:
        parsed = moment if isinstance(moment, datetime) else datetime.fromisoformat(str(moment))
        parsed = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
        return parsed.isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return ""
