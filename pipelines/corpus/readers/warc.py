"""Cutting a WARC file into records, by their lengths where those are right and by their first lines where not.

FastWARC parses each record, but gives up the rest of a file after a wrong Content-Length, a header over its limit or
an unknown version, and returns a cut record as if it were whole. So the records are cut here: a record counts only
if another record or the end follows it; after one that does not hold, reading goes on at the next `WARC/` line or
gzip member, and what was passed over is counted.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from os import SEEK_END
from pathlib import Path

from fastwarc.warc import WarcRecord

from pipelines.corpus.readers.records import Dropped, Record, digest_of, short, storable, utc
from pipelines.corpus.readers.window import Form, Window

MAX_HEADER = 1 << 16
LINE = re.compile(rb"WARC/[01]\.\d{1,2}\r?\n")
LINE_LENGTH = len(b"WARC/0.17\r\n")
HEADER_END = re.compile(rb"\r?\n\r?\n|(\nWARC/[01]\.\d{1,2}\r?\n)")
"""A blank line, or the first line of another record, before which a header without one is broken."""
LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One whole record: its header, the blank line, and a block of the length that the header says."""

    offset: int
    """Where it begins in the file, or in the decompressed stream where no gzip member begins with it."""
    data: bytes | bytearray
    end: int | None = None
    """Where it ends in `data`, if the line ends after it came along."""


class WarcForm:
    """Records that begin with `WARC/`, a header and a blank line, and end with two line ends."""

    line = LINE
    line_length = LINE_LENGTH

    def measured(self, window: Window) -> tuple[int, int] | str:
        """Return the lengths of the header, its blank line included, and of the block, or why they are not known."""
        window.fill(LINE_LENGTH)
        header = _header(window)
        length = LENGTH.search(window.data, 0, header or 0)
        if not LINE.match(window.data) or not header or not length:
            return "truncated" if window.ended and not header else "bad_record"
        return header, int(length[1])

    def ends(self, after: bytes) -> bool:
        """Return whether a record ends before these bytes: with its blank lines, another record or the end."""
        return after[:4] == b"\r\n\r\n" or after[:2] == b"\n\n" or not after.strip() or after.lstrip()[:5] == b"WARC/"

    def whole(self, member: bytes | bytearray) -> int | None:
        """Return the length of the record if it is in the usual form: line ends of two bytes, and two at its end."""
        blank = member.find(b"\r\n\r\n", 0, MAX_HEADER) if LINE.match(member) else -1
        if blank < 0 or member.find(b"\n\n", 0, blank) >= 0:
            return None
        length = LENGTH.search(member, 0, blank + 2)
        size = blank + 4 + int(length[1]) if length else 0
        return size if size and member[size:] == b"\r\n\r\n" else None


def _header(window: Window) -> int | None:
    """Return how long the header is, its blank line included, or None if it does not end within the limit."""
    count = 1024
    while True:
        enough = window.fill(count)
        end = HEADER_END.search(window.data, 0, min(count, MAX_HEADER))
        if end:
            return None if end[1] else end.end()
        if not enough or count >= MAX_HEADER:
            return None
        count *= 4


def url_of(record: WarcRecord) -> str:
    """Return the address that a record's header names."""
    return storable((record.headers.get("WARC-Target-URI") or "").strip("<>"))


def first_of_its_name(
    record: WarcRecord, offset: int, seen: set[str], *, payload: bytes, content: str, is_html: bool
) -> Record | Dropped:
    """Return the record with its content, or as dropped when another of its identifier is in `seen`, which gathers."""
    identifier = short(record.record_id or "")
    if identifier in seen:
        return Dropped(offset, "duplicate_record_id", url=url_of(record))
    if identifier:
        seen.add(identifier)
    moment = utc(record.headers.get("WARC-Date"))
    return Record(offset, digest_of(payload), url_of(record), moment, content, is_html)


def raw_records(path: Path, max_bytes: int, form: Form | None = None) -> Iterator[RawRecord | Dropped]:
    """Yield the records of an archive in order; those over `max_bytes`, damaged or cut come as `Dropped`."""
    window = Window(path, form or WarcForm())
    while window.next_segment():
        yield from _whole_members(window, max_bytes)
        while window.skip_newlines():
            yield _next(window, max_bytes)
            yield from _whole_members(window, max_bytes)
        if window.broken and not window.blamed:
            yield Dropped(window.offset(), window.broken)


def _whole_members(window: Window, max_bytes: int) -> Iterator[RawRecord]:
    """Yield the records that come next and are a gzip member each, as nearly all are, without a copy of their bytes."""
    while piece := window.next_member():
        size = window.form.whole(piece.data)
        if size is None or size > max_bytes:
            return
        window.pass_member()
        yield RawRecord(piece.member or 0, piece.data, size)


def _next(window: Window, max_bytes: int) -> RawRecord | Dropped:
    offset = window.offset()
    lengths = window.form.measured(window)
    if isinstance(lengths, str):
        return _lost(window, offset, lengths)
    size = sum(lengths)
    if size > max_bytes:
        return _too_large(window, offset, size)
    if not window.fill(size):
        return _lost(window, offset, "truncated")
    if not window.boundary(size):
        return _lost(window, offset, "bad_record")
    window.count_start()
    return RawRecord(offset, window.take(size))


def _lost(window: Window, offset: int, reason: str) -> Dropped:
    """Pass over a record whose length cannot be trusted, to the next that begins."""
    skipped = window.resync()
    window.blamed = window.at_end()
    return Dropped(offset, reason if window.blamed else "bad_record", skipped_bytes=skipped)


def _too_large(window: Window, offset: int, size: int) -> Dropped:
    """Pass over a record too large to hold: whole where the file shows that its length is right, else as a lost one."""
    if _holds_boundary(window, window.position + size):
        window.discard(size)
        return Dropped(offset, "too_large", skipped_bytes=size)
    skipped = window.resync()
    window.blamed = window.at_end()
    return Dropped(offset, "too_large", skipped_bytes=skipped)


def _holds_boundary(window: Window, end: int) -> bool:
    """Return whether a record of a file that is not compressed ends at `end`."""
    if window.plain is None:
        return False
    with window.plain.open("rb") as file:
        file.seek(0, SEEK_END)
        size = file.tell()
        file.seek(min(end, size))
        return end <= size and window.form.ends(file.read(window.form.line_length + 4))
