"""The decompressed bytes of a file, piece by piece, with where its gzip members begin and what could not be read.

Python's zlib is used for gzip because it tells exactly where a member ends: a record is found again by the offset of
its member. A member that cannot be read costs only itself: reading goes on at the next one.
"""

import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fastwarc.stream_io import Lz4Reader, ZstdReader

CHUNK = 1 << 18
GZIP = b"\x1f\x8b\x08"
FRAMED: dict[bytes, Any] = {b"\x28\xb5\x2f\xfd": ZstdReader, b"\x04\x22\x4d\x18": Lz4Reader}


@dataclass(frozen=True, slots=True)
class Piece:
    """Some decompressed bytes."""

    data: bytes
    member: int | None = None
    """The offset in the file of the gzip member that begins with these bytes, if one does."""
    broken: bool = False
    """The bytes after these could not be decompressed; what follows is the next readable member."""


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


def _gzip(file: BinaryIO) -> Iterator[Piece]:
    start: int | None = 0
    while start is not None:
        end = yield from _member(file, start)
        if end is None:
            yield Piece(b"", broken=True)
            start = _find(file, GZIP, start + 1)
        else:
            file.seek(end)
            rest = file.read(len(GZIP))
            if rest and rest != GZIP and (rest.strip(b"\0") or _find(file, GZIP, end) is not None):
                yield Piece(b"", broken=True)
            start = end if rest == GZIP else _find(file, GZIP, end)


def _member(file: BinaryIO, start: int) -> Generator[Piece, None, int | None]:
    """Yield one member's pieces and return where it ends, or None when it is damaged or cut."""
    file.seek(start)
    inflater = zlib.decompressobj(wbits=31)
    member: int | None = start
    data = b""
    while not inflater.eof:
        data = inflater.unconsumed_tail or file.read(min(CHUNK, 1 << 16))
        if not data:
            return None
        try:
            found = inflater.decompress(data, CHUNK)
        except zlib.error:
            return None
        if found:
            yield Piece(found, member)
            member = None
    return file.tell() - len(inflater.unused_data)


def _framed(file: BinaryIO, magic: bytes, reader_type: Any) -> Iterator[Piece]:
    start: int | None = 0
    while start is not None:
        file.seek(start)
        reader = reader_type(file)
        try:
            while data := reader.read(CHUNK):
                yield Piece(data)
            return
        except OSError:
            yield Piece(b"", broken=True)
            start = _find(file, magic, start + (reader.frame_start_position() or 0) + 1)


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
