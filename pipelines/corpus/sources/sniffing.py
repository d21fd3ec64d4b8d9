"""What a file holds where its name does not tell: the first decompressed bytes do."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

SNIFFED_BYTES = 1 << 16
ROOT = re.compile(rb"<(?![?!])(?:[\w.-]+:)?([A-Za-z][\w.-]*)")
COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)


def first_bytes(path: Path) -> bytes:
    """Return the first decompressed bytes of a file; what cannot be read has none."""
    from pipelines.corpus.readers.bzip import any_pieces

    found = bytearray()
    with suppress(OSError):
        for piece in any_pieces(path):
            found += piece.data
            if len(found) >= SNIFFED_BYTES or piece.broken:
                break
    return bytes(found[:SNIFFED_BYTES])


def xml_root(path: Path) -> str:
    """Return the name of a file's first element, without its namespace, or an empty string."""
    found = ROOT.search(COMMENT.sub(b"", first_bytes(path)))
    return found[1].decode() if found else ""


def first_row(path: Path) -> Any:
    """Return the first JSON value of a file of lines that is whole within the first bytes, or None."""
    for line in first_bytes(path).removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if line.strip():
            try:
                return json.loads(line.decode("utf-8", "replace"))
            except (ValueError, RecursionError):
                return None
    return None
