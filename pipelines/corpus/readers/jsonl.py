"""Reading JSON lines, plain or compressed: every line is a record or is counted with a reason."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from pipelines.corpus.readers.inflate import pieces
from pipelines.corpus.readers.records import Dropped, Limits, Record, digest_of, storable, utc

BOM = b"\xef\xbb\xbf"


def json_records(
    path: Path, text_field: str, url_field: str, limits: Limits, start: int = 0, end: int | None = None
) -> Iterator[Record | Dropped]:
    """Yield the rows of a file in order; offsets count decompressed bytes.

    Of a plain file the lines that begin at `start` or later and before `end` can be read by themselves.
    """
    for offset, line, row in json_rows(path, limits, start, end):
        yield row if isinstance(row, Dropped) else _record(offset, line, row, text_field, url_field)


def json_rows(
    path: Path, limits: Limits, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, bytes, dict[str, Any] | Dropped]]:
    """Yield each line with its offset and its object, or why it holds none."""
    for offset, line in _lines(path, limits.record, start):
        if end is not None and offset >= end:
            return
        if offset < start:
            continue  # the slice before has this line
        if isinstance(line, str):
            yield offset, b"", Dropped(offset, line)
        else:
            line = line.removeprefix(BOM) if offset == 0 else line
            yield offset, line, _row(offset, line)


def _lines(path: Path, max_bytes: int, start: int) -> Iterator[tuple[int, bytes | str]]:
    """Yield each line with where it begins; a line that is too long or cut off comes as the reason.

    A line is looked for from the byte before `start`: what is first then is a line that began earlier.
    """
    offset = max(start - 1, 0)
    held, passed = bytearray(), 0
    for piece in pieces(path, offset):
        held += piece.data
        *whole, rest = held.split(b"\n")
        for line in whole:
            size = passed + len(line)
            yield offset, "too_large" if size > max_bytes else bytes(line)
            offset += size + 1
            passed = 0
        held = bytearray(rest)
        if piece.broken:
            yield offset, "truncated"
            offset += passed + len(held)
            held, passed = bytearray(), 0
        elif passed + len(held) > max_bytes:
            passed += len(held)
            held = bytearray()
    if held or passed:
        yield offset, "too_large" if passed + len(held) > max_bytes else bytes(held)


def _row(offset: int, line: bytes) -> dict[str, Any] | Dropped:
    if not line.strip():
        return Dropped(offset, "blank_line")
    try:
        row = parsed(line)
    except (ValueError, RecursionError):
        return Dropped(offset, "bad_json")
    return row if isinstance(row, dict) else Dropped(offset, "not_an_object")


def _record(offset: int, line: bytes, row: dict[str, Any], text_field: str, url_field: str) -> Record | Dropped:
    text, url = row.get(text_field), url_of(row, url_field)
    if text is None:
        return Dropped(offset, "no_text", url=url)
    if not isinstance(text, str):
        return Dropped(offset, "text_not_a_string", url=url)
    return Record(
        offset=offset,
        digest=digest_of(line.rstrip(b"\r")),
        url=url,
        crawl_time=utc(row.get("crawl_time")),
        content=storable(text),
        is_html=False,
    )


def url_of(row: dict[str, Any], url_field: str) -> str:
    """Return the row's address, or an empty string."""
    url = row.get(url_field)
    return storable(url) if isinstance(url, str) else ""


def parsed(line: bytes) -> Any:
    """Return the JSON value of a line; lone surrogates, NaN and invalid UTF-8 do not spoil it."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line.decode("utf-8", "replace"))
