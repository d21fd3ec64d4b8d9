"""Cutting a WARC file into records, by their lengths where those are right and by their first lines where not.

FastWARC parses each record, but gives up the rest of a file after a wrong Content-Length, a header over its limit or
an unknown version, and returns a cut record as if it were whole. So the records are cut here: a record counts only
if another record or the end follows it; after one that does not hold, reading goes on at the next `WARC/` line or
gzip member, and what was passed over is counted.
"""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from os import SEEK_END
from pathlib import Path

from pipelines.corpus.readers.inflate import Piece, is_plain, pieces
from pipelines.corpus.readers.records import Dropped

MAX_HEADER = 1 << 16
LINE = re.compile(rb"WARC/[01]\.\d{1,2}\r?\n")
LINE_LENGTH = len(b"WARC/0.17\r\n")
BLANK = re.compile(rb"\r?\n\r?\n")
LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One whole record: its header, the blank line, and a block of the length that the header says."""

    offset: int
    """Where it begins in the file, or in the decompressed stream where no gzip member begins with it."""
    data: bytes | bytearray
    end: int | None = None
    """Where it ends in `data`, if the line ends after it came along."""


def raw_records(path: Path, max_bytes: int) -> Iterator[RawRecord | Dropped]:
    """Yield the records of a WARC file in order; those over `max_bytes`, damaged or cut come as `Dropped`."""
    window = Window(pieces(path), path if is_plain(path) else None)
    while window.next_segment():
        yield from _whole_members(window, max_bytes)
        while window.skip_newlines():
            yield _next(window, max_bytes)
            yield from _whole_members(window, max_bytes)
        if window.broken and not window.blamed:
            yield Dropped(window.offset(), window.broken)


def _whole_members(window: "Window", max_bytes: int) -> Iterator[RawRecord]:
    """Yield the records that come next and are a gzip member each, as nearly all are, without a copy of their bytes."""
    while piece := window.next_member():
        data = piece.data
        blank = data.find(b"\r\n\r\n", 0, MAX_HEADER) if LINE.match(data) else -1
        blank = -1 if data.find(b"\n\n", 0, max(blank, 0)) >= 0 else blank
        length = LENGTH.search(data, 0, blank + 2) if blank >= 0 else None
        size = blank + 4 + int(length[1]) if length else 0
        if not length or size > max_bytes or data[size:] != b"\r\n\r\n":
            return
        window.pass_member()
        yield RawRecord(piece.member or 0, data, size)


def _next(window: "Window", max_bytes: int) -> RawRecord | Dropped:
    offset = window.offset()
    window.fill(LINE_LENGTH)
    whole = window.fill_header()
    length = LENGTH.search(window.data, 0, whole or 0)
    if not LINE.match(window.data) or not whole or not length:
        return _lost(window, offset, "truncated" if window.ended and not whole else "bad_record")
    size = whole + int(length[1])
    if size > max_bytes:
        return _too_large(window, offset, size)
    if not window.fill(size):
        return _lost(window, offset, "truncated")
    if not window.boundary(size):
        return _lost(window, offset, "bad_record")
    window.count_start()
    return RawRecord(offset, window.take(size))


def _lost(window: "Window", offset: int, reason: str) -> Dropped:
    """Pass over a record whose length cannot be trusted, to the next that begins."""
    skipped = window.resync()
    window.blamed = window.at_end()
    return Dropped(offset, reason if window.blamed else "bad_record", skipped_bytes=skipped)


def _too_large(window: "Window", offset: int, size: int) -> Dropped:
    """Pass over a record too large to hold: whole where the file shows that its length is right, else as a lost one."""
    if window.plain and _holds_boundary(window.plain, window.position + size):
        window.discard(size)
        return Dropped(offset, "too_large", skipped_bytes=size)
    skipped = window.resync()
    window.blamed = window.at_end()
    return Dropped(offset, "too_large", skipped_bytes=skipped)


def _holds_boundary(path: Path, end: int) -> bool:
    with path.open("rb") as file:
        file.seek(0, SEEK_END)
        size = file.tell()
        file.seek(min(end, size))
        return end <= size and _is_boundary(file.read(LINE_LENGTH + 4))


def _is_boundary(after: bytes) -> bool:
    """Return whether a record ends before these bytes: with its blank lines, another record or the end."""
    return after[:4] == b"\r\n\r\n" or after[:2] == b"\n\n" or not after.strip() or after.lstrip()[:5] == b"WARC/"


class Window:
    """The part of a decompressed file that is held: it grows at the end and is taken from the front."""

    def __init__(self, source: Iterator[Piece], plain: Path | None) -> None:
        self.plain = plain
        self.data = bytearray()
        self.position = 0
        self.ended = self.blamed = False
        self.broken = ""
        """Why the segment ended before the file did."""
        self.own_members = True
        self._starts = 0
        self._members: deque[tuple[int, int]] = deque()
        self._source = source
        self._waiting: Piece | None = None
        self._over = False

    def next_segment(self) -> bool:
        """Begin after a place that could not be decompressed; return whether anything is left."""
        if self._over:
            return False
        self.ended = self.blamed = False
        self.broken = ""
        return True

    def next_member(self) -> Piece | None:
        """Return the next piece if it is a whole gzip member and nothing before it is held; it is not taken."""
        if self.data or self.ended:
            return None
        self._waiting = self._waiting or next(self._source, None)
        return self._waiting if self._waiting and self._waiting.whole else None

    def pass_member(self) -> None:
        """Let the member that `next_member` returned go as a record."""
        self.position += len(self._waiting.data) if self._waiting else 0
        self._waiting = None
        self._starts += 1

    def fill(self, count: int) -> bool:
        """Hold at least `count` bytes, if the segment has as many."""
        while len(self.data) < count and not self.ended:
            piece, self._waiting = self._waiting or next(self._source, None), None
            if piece is None:
                self.ended = self._over = True
                break
            if piece.member is not None:
                self._members.append((self.position + len(self.data), piece.member))
            self.data += piece.data
            self.broken = piece.broken
            self.ended = bool(piece.broken)
        return len(self.data) >= count

    def fill_header(self) -> int | None:
        """Return how long the header is, its blank line included, or None if it does not end within the limit."""
        count = 1024
        while True:
            enough = self.fill(count)
            blank = BLANK.search(self.data, 0, min(count, MAX_HEADER))
            if blank:
                return blank.end()
            if not enough or count >= MAX_HEADER:
                return None
            count *= 4

    def offset(self) -> int:
        """Return where the held bytes begin: in the file if a gzip member begins there, else in the stream."""
        self._forget_members()
        here = bool(self._members) and self._members[0][0] == self.position
        return self._members[0][1] if here else self.position

    def count_start(self) -> None:
        """Note whether the records of this file have a gzip member each."""
        self._forget_members()
        self._starts += 1
        self.own_members = self.own_members and bool(self._members) and self._members[0][0] == self.position

    def boundary(self, size: int) -> bool:
        """Return whether a record of `size` bytes ends where its block does: blank lines, a record or the end."""
        self.fill(size + LINE_LENGTH + 4)
        return _is_boundary(bytes(self.data[size : size + LINE_LENGTH + 4]))

    def take(self, count: int) -> bytes:
        """Return the first `count` bytes and let them go."""
        taken = bytes(self.data[:count])
        del self.data[:count]
        self.position += count
        return taken

    def discard(self, count: int) -> None:
        """Let the first `count` bytes go, a piece at a time."""
        while count and self.fill(1):
            count -= len(self.take(min(count, len(self.data))))

    def skip_newlines(self) -> bool:
        """Let line ends between records go; return whether the segment has a byte left."""
        while self.fill(1):
            blank = len(self.data) - len(self.data.lstrip(b"\r\n"))
            if not blank:
                return True
            self.take(blank)
        return False

    def at_end(self) -> bool:
        """Return whether nothing of the segment is left."""
        return not self.fill(1)

    def resync(self) -> int:
        """Let bytes go up to the next line or member that begins a record; return how many went.

        Where each record so far had its own member, only members count: a page may hold such a line in its text.
        """
        members_only = self.own_members and self._starts > 1
        skipped = len(self.take(1))
        while True:
            self.fill(1 << 16)
            at = self._next_start(members_only)
            if at is not None:
                return skipped + len(self.take(at))
            if self.ended:
                return skipped + len(self.take(len(self.data)))
            skipped += len(self.take(max(len(self.data) - LINE_LENGTH - 1, 1)))

    def _next_start(self, members_only: bool) -> int | None:
        for found in LINE.finditer(self.data):
            at = found.start()
            member = any(start == self.position + at for start, _ in self._members)
            if member or (not members_only and at and self.data[at - 1] == 0x0A):
                return at
        return None

    def _forget_members(self) -> None:
        while self._members and self._members[0][0] < self.position:
            self._members.popleft()
