"""The part of a decompressed archive that is in memory while records are cut from it."""

import re
from abc import abstractmethod
from collections import deque
from pathlib import Path
from typing import Protocol

from pipelines.corpus.readers.inflate import Piece, is_plain, pieces


class Form(Protocol):
    """How the records of a kind of archive begin and end."""

    line: re.Pattern[bytes]
    """The first line of a record."""
    line_length: int
    """Bytes that are enough to tell such a line."""

    @abstractmethod
    def measured(self, window: "Window") -> tuple[int, int] | str:
        """Return the lengths of the header and of the block of the record that the window begins with, or a reason."""

    @abstractmethod
    def ends(self, after: bytes) -> bool:
        """Return whether a record ends before these bytes."""

    @abstractmethod
    def whole(self, member: bytes | bytearray) -> int | None:
        """Return the length of the record, if the gzip member is one and nothing but its line ends follows it."""


class Window:
    """The part of a decompressed file that is held: it grows at the end and is taken from the front."""

    def __init__(self, path: Path, form: Form) -> None:
        self.form = form
        self._line_begins = re.compile(rb"(?<=\n)" + form.line.pattern)
        """A record's first line where a line begins: tried there only, a long line costs no more than its length."""
        self.plain = path if is_plain(path) else None
        self.data = bytearray()
        self.position = 0
        self.ended = self.blamed = False
        self.broken = ""
        """Why the segment ended before the file did."""
        self.own_members = True
        self._starts = 0
        self._members: deque[tuple[int, int]] = deque()
        self._source = pieces(path)
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
        """Return whether a record of `size` bytes ends where its block does: what follows is none, or a record."""
        self.fill(size + self.form.line_length + 4)
        return self.form.ends(bytes(self.data[size : size + self.form.line_length + 4]))

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
            skipped += len(self.take(max(len(self.data) - self.form.line_length - 1, 1)))

    def _next_start(self, members_only: bool) -> int | None:
        """Return where a record begins next: with a member, or after a line end; no first line runs into a member."""
        starts = [start - self.position for start, _ in self._members if start >= self.position]
        member = next((at for at in starts if self.form.line.match(self.data, at)), None)
        if members_only:
            return member
        for found in self._line_begins.finditer(self.data):
            at = found.start()
            if member is not None and at >= member:
                break
            if not any(at < start < found.end() for start in starts):
                return at
        return member

    def holds_member(self, count: int) -> bool:
        """Return whether a gzip member begins among the first `count` bytes, but for the very first."""
        return any(self.position < start < self.position + count for start, _ in self._members)

    def _forget_members(self) -> None:
        while self._members and self._members[0][0] < self.position:
            self._members.popleft()
