"""The decompressed bytes of a bzip2 file, as wikis are dumped, or of any other file that `inflate` reads."""

import bz2
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO

from pipelines.corpus.readers.inflate import CHUNK, Piece, pieces

MAGIC = b"BZh"
STREAM = re.compile(rb"BZh[1-9]1AY&SY")
"""How a stream begins: the size of its blocks, then the first block's number, which is pi."""
MAX_RATIO = 1_000
"""Decompressed to stored bytes; dumps of whole histories stay below 100, bombs reach a million."""
SAFE_BYTES = 64 << 20


def any_pieces(path: Path) -> Iterator[Piece]:
    """Yield the decompressed bytes of a bzip2, gzip, zstd, lz4 or plain file, which is told by its first bytes."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) == MAGIC:
            yield from _streams(file)
            return
    yield from pieces(path)


def _streams(file: BinaryIO) -> Iterator[Piece]:
    """Yield the pieces of all streams; after one that is damaged or a bomb, reading goes on at the next that begins."""
    start: int | None = 0
    while start is not None:
        end = yield from _stream(file, start)
        if end is None:
            yield Piece(b"", broken="damaged_compression")
            start = _find_stream(file, start + 1)
            continue
        file.seek(end)
        rest = file.read(10)
        if rest and not STREAM.match(rest):
            yield Piece(b"", broken="damaged_compression")
        start = _find_stream(file, end) if rest else None


def _stream(file: BinaryIO, start: int) -> Generator[Piece, None, int | None]:
    """Yield one stream's pieces and return where it ends, or None when it is damaged, cut or a bomb."""
    file.seek(start)
    inflater, given = bz2.BZ2Decompressor(), 0
    while not inflater.eof:
        data = file.read(CHUNK) if inflater.needs_input else b""
        if inflater.needs_input and not data:
            return None
        try:
            found = inflater.decompress(data, CHUNK)
        except OSError:
            return None
        given += len(found)
        if given > max(SAFE_BYTES, MAX_RATIO * (file.tell() - start)):
            return None
        if found:
            yield Piece(found)
    return file.tell() - len(inflater.unused_data)


def _find_stream(file: BinaryIO, start: int) -> int | None:
    """Return where the next stream begins in the file at or after `start`."""
    file.seek(start)
    kept = b""
    while chunk := file.read(CHUNK):
        window = kept + chunk
        found = STREAM.search(window)
        if found:
            return start - len(kept) + found.start()
        start += len(chunk)
        kept = window[-9:]
    return None
