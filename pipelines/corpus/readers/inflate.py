"""The decompressed bytes of a file, piece by piece, with where its gzip members begin and what could not be read.

Members of gzip are inflated one by one, because a record is found again by the offset of its member. A small member
that ends where the next begins is inflated in one call by libdeflate, which takes a third of zlib's time; every other
by zlib, which tells where it ends. A member that cannot be read costs only itself: reading goes on at the next one.
"""

import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from os import fstat
from pathlib import Path
from typing import Any, BinaryIO

from deflate import DeflateError, gzip_decompress
from fastwarc.stream_io import Lz4Reader, ZstdReader

CHUNK = 1 << 18
HELD = 1 << 20
"""Compressed bytes in memory; a longer member is read in pieces."""
FED = 1 << 16
WHOLE = 1 << 24
"""Bytes up to which a member comes in one piece."""
SHORTEST = 18
"""Bytes of the header and the trailer of a gzip member."""
MAX_RATIO = 200
"""Bytes for a byte above which a stream longer than `BOMB_FLOOR` is no text: zeros inflate 1029 to 1, HTML under 50."""
FRAMED_RATIO = 2_000
"""The same for zstd, whose long matches bring a file of like pages above 200."""
BOMB_FLOOR = 1 << 26
MAX_AGAIN = 8
"""Times the size of a file that is read again after damaged members, each from its second byte on; a file made of
members one inside the other would be read for days."""
GZIP = b"\x1f\x8b\x08"
FRAMED: dict[bytes, Any] = {b"\x28\xb5\x2f\xfd": ZstdReader, b"\x04\x22\x4d\x18": Lz4Reader}


class Bomb(Exception):
    """A stream inflates to far more than text does."""


@dataclass(slots=True)
class Piece:
    """Some decompressed bytes."""

    data: bytes | bytearray
    member: int | None = None
    """The offset in the file of the gzip member that begins with these bytes, if one does."""
    whole: bool = False
    """These bytes are that whole member, sound by its checksum."""
    broken: str = ""
    """Why the bytes after these could not be decompressed; what follows is the next readable member."""


def pieces(path: Path, start: int = 0) -> Iterator[Piece]:
    """Yield the decompressed bytes of a gzip, zstd, lz4 or plain file, which is told by its first bytes.

    A plain file may be read from `start` on.
    """
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic[:3] == GZIP:
            yield from _gzip(file)
        elif magic in FRAMED:
            yield from _framed(file, magic, FRAMED[magic])
        else:
            file.seek(start)
            while data := file.read(CHUNK):
                yield Piece(data)


def is_plain(path: Path) -> bool:
    """Return whether the file is not compressed, so that a place in the stream is a place in the file."""
    with path.open("rb") as file:
        magic = file.read(4)
    return magic[:3] != GZIP and magic not in FRAMED


class Held:
    """A file of which a stretch is in memory, so that members that lie close are not read twice."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = 0
        self._data = b""

    def at(self, offset: int, count: int) -> memoryview:
        """Return up to `count` bytes from `offset` on; none at the end of the file."""
        begin = self._hold(offset, count)
        return memoryview(self._data)[begin : begin + count]

    def member(self, start: int) -> memoryview | None:
        """Return the bytes from the member at `start` to the next or to the file's end, if they are few."""
        begin = self._hold(start, 1)
        end = self._data.find(GZIP, begin + SHORTEST)
        if end < 0 and begin:
            begin = self._hold(start, HELD)
            end = self._data.find(GZIP, begin + SHORTEST)
        if end < 0 and len(self._data) < HELD:
            end = len(self._data)
        return memoryview(self._data)[begin:end] if end >= begin + SHORTEST else None

    def _hold(self, offset: int, count: int) -> int:
        begin = offset - self._start
        if begin < 0 or begin + count > len(self._data):
            self._file.seek(offset)
            self._data, self._start, begin = self._file.read(HELD), offset, 0
        return begin


def _gzip(file: BinaryIO) -> Iterator[Piece]:
    held = Held(file)
    left = MAX_AGAIN * max(fstat(file.fileno()).st_size, HELD)
    start: int | None = 0
    while start is not None:
        quick = _whole_member(held, start)
        if quick:
            yield quick[0]
            start = quick[1] if held.at(quick[1], 1) else None
            continue
        sound, end = yield from _member(held, start)
        if not sound:
            left -= end - start
            start = _find(file, GZIP, start + 1 if left > 0 else max(start + 1, end))
            continue
        rest = bytes(held.at(end, len(GZIP)))
        if rest == GZIP:
            start = end
            continue
        start = _find(file, GZIP, end)
        if rest.strip(b"\0") or (rest and start is not None):
            yield Piece(b"", broken="damaged_compression")


def _whole_member(held: Held, start: int) -> tuple[Piece, int] | None:
    """Return the member and where it ends if it is small, sound and ends where another begins, else None.

    Its last four bytes say its size. What lies between it and the next one, if anything, would be taken for these.
    """
    data = held.member(start)
    size = int.from_bytes(data[-4:], "little") if data else 0
    if data is None or not 0 < size <= min(WHOLE, MAX_RATIO * len(data)):
        return None
    try:
        found = gzip_decompress(data, size)
    except DeflateError:
        return None
    return (Piece(found, start, whole=True), start + len(data)) if len(found) == size else None


def _member(held: Held, start: int) -> Generator[Piece, None, tuple[bool, int]]:
    """Yield one member's pieces; return whether it is sound and where it ends, or how far it was read where it is
    damaged, cut or a bomb."""
    inflater = zlib.decompressobj(wbits=31)
    member: int | None = start
    position, size = start, 0
    while not inflater.eof:
        data: bytes | memoryview = inflater.unconsumed_tail
        if not data:
            data = held.at(position, FED)
            position += len(data)
        try:
            found = inflater.decompress(data, CHUNK) if data else b""
        except zlib.error:
            data, found = b"", b""
        size += len(found)
        if not data:
            yield Piece(b"", broken="damaged_compression")
            return False, position
        if size > BOMB_FLOOR and size > MAX_RATIO * (position - start):
            yield Piece(b"", broken="decompression_bomb")
            return False, position
        if found:
            yield Piece(found, member)
            member = None
    return True, position - len(inflater.unused_data)


def _framed(file: BinaryIO, magic: bytes, reader_type: Any) -> Iterator[Piece]:
    left = MAX_AGAIN * max(fstat(file.fileno()).st_size, HELD)
    start: int | None = 0
    while start is not None:
        file.seek(start)
        reader = reader_type(file)
        size = 0
        try:
            while data := reader.read(CHUNK):
                yield Piece(data)
                size += len(data)
                if size > BOMB_FLOOR and size > FRAMED_RATIO * (file.tell() - start):
                    raise Bomb
            return
        except (OSError, Bomb) as error:
            yield Piece(b"", broken="decompression_bomb" if isinstance(error, Bomb) else "damaged_compression")
            begun, reached = start + (reader.frame_start_position() or 0), file.tell()
            left -= reached - begun
            start = _find(file, magic, begun + 1 if left > 0 else max(begun + 1, reached))


def _find(file: BinaryIO, magic: bytes, start: int) -> int | None:
    """Return where `magic` next occurs in the file at or after `start`."""
    file.seek(start)
    kept = b""
    while chunk := file.read(CHUNK):
        window = kept + chunk
        at = window.find(magic)
        if at >= 0:
            return start - len(kept) + at
        start += len(chunk)
        kept = window[-(len(magic) - 1) :]
    return None
