"""A file that is read whole, because it is one document."""

from pathlib import Path

from pipelines.corpus.readers.http_page import decoded
from pipelines.corpus.readers.records import Dropped, storable

SNIFFED_BYTES = 1 << 14
CONTROLS = bytes({*range(0, 7), *range(14, 27), *range(28, 32)})
MAX_CONTROLS = 0.02
"""Share of control characters above which a file is no text; crawled pages are held to the same."""
BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_whole(path: Path, max_bytes: int) -> bytes | Dropped:
    """Return the bytes of a file, or why it is dropped: too large, without a byte, or not readable."""
    try:
        with path.open("rb") as file:
            body = file.read(max_bytes + 1)
    except OSError:
        return Dropped(0, "unreadable_file")
    if len(body) > max_bytes:
        return Dropped(0, "too_large")
    return body if body.strip() else Dropped(0, "empty_file")


def is_binary(body: bytes) -> bool:
    """Return whether the first bytes are no text in any charset; UTF-16 shows by its mark."""
    head = body[:SNIFFED_BYTES]
    controls = len(head) - len(head.translate(None, CONTROLS))
    return controls > MAX_CONTROLS * len(head) and not body.startswith(BYTE_ORDER_MARKS)


def text_of(body: bytes) -> str:
    """Return the bytes as text: UTF-8 where they are valid, else the charset they look like; lines end in one `\\n`."""
    return storable(decoded(body, None).removeprefix("\ufeff")).replace("\r\n", "\n").replace("\r", "\n")
