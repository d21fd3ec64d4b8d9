"""ARC files, the format before WARC: each record becomes the WARC record that says the same.

Source: https://archive.org/web/researcher/ArcFileFormat.php, versions 1 and 2.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pipelines.corpus.readers.inflate import pieces
from pipelines.corpus.readers.records import Dropped
from pipelines.corpus.readers.warc import RawRecord, raw_records
from pipelines.corpus.readers.window import Window

LINE = re.compile(
    rb"(?P<url>[A-Za-z][A-Za-z0-9+.-]{0,30}:[^ \r\n]{0,4000}) (?P<host>[0-9a-fA-F.:]{1,45}) (?P<date>\d{14}) "
    rb"(?P<mime>[^ \r\n]{1,200})(?: [^\r\n]{0,500})? (?P<length>\d{1,18})\r?\n"
)
LINE_LENGTH = 5_000
FIRST = b"filedesc:"
WARC = "WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Date: {date}\r\nContent-Type: {mime}\r\nContent-Length: {length}\r\n"


class ArcForm:
    """Records that begin with one line of address, host, date, type and length, and end with a line end."""

    line = LINE
    line_length = LINE_LENGTH

    def measured(self, window: Window) -> tuple[int, int] | str:
        """Return the lengths of the first line and of the block, or why they are not known."""
        window.fill(LINE_LENGTH)
        first = LINE.match(window.data)
        if first and not window.holds_member(first.end()):
            return first.end(), int(first["length"])
        return "truncated" if window.ended and b"\n" not in window.data else "bad_record"

    def ends(self, after: bytes) -> bool:
        """Return whether a record ends before these bytes: with the end, or a line end and another's first line."""
        rest = after.lstrip(b"\r\n")
        return not rest or (rest != after and LINE.match(rest) is not None)

    def whole(self, member: bytes | bytearray) -> int | None:
        """Return the length of the record if nothing but a line end follows it."""
        first = LINE.match(member)
        size = first.end() + int(first["length"]) if first else 0
        return size if first and member[size:] in (b"\n", b"\r\n") else None


def is_arc(path: Path) -> bool:
    """Return whether the file begins as an ARC file does, or is named as one."""
    first = next(pieces(path), None)
    named = path.name.lower().removesuffix(".gz").endswith(".arc")
    return named or (first is not None and first.data[: len(FIRST)] == FIRST)


def arc_records(path: Path, max_bytes: int) -> Iterator[RawRecord | Dropped]:
    """Yield the records of an ARC file in order, as WARC records; offsets are those in the ARC file."""
    for record in raw_records(path, max_bytes, ArcForm()):
        yield as_warc(record) if isinstance(record, RawRecord) else record


def as_warc(record: RawRecord) -> RawRecord:
    """Return the WARC record that says what an ARC record says."""
    first = LINE.match(record.data)
    if first is None:
        return record
    url, date = first["url"], first["date"].decode()
    block = record.data[first.end() : record.end]
    kind, mime = "response", "application/http; msgtype=response"
    if url.startswith(FIRST):
        kind, mime = "warcinfo", "text/plain"
    elif not url.lower().startswith((b"http:", b"https:")):
        mime = first["mime"].decode("latin-1")
    moment = f"{date[:4]}-{date[4:6]}-{date[6:8]}T{date[8:10]}:{date[10:12]}:{date[12:]}Z"
    header = WARC.format(kind=kind, date=moment, mime=mime, length=len(block)).encode()
    return RawRecord(record.offset, header + b"WARC-Target-URI: " + url + b"\r\n\r\n" + block)
