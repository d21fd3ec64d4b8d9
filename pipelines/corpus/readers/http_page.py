"""From a WARC record to a page: the HTTP response's body, undone of its encodings, as text."""

import re
import zlib
from contextlib import suppress
from io import BytesIO
from typing import Any

from fastwarc.stream_io import BrotliReader, ChunkedReader, GzipReader, ZstdReader
from fastwarc.warc import WarcRecord, WarcRecordType
from resiliparse.parse.encoding import bytes_to_str, detect_encoding, detect_mime, map_encoding_to_html5

from pipelines.corpus.readers.records import REPLACEMENT, Dropped, Limits, Record, digest_of, short, storable, utc
from pipelines.corpus.readers.warc import RawRecord

HTML = frozenset({"text/html", "application/xhtml+xml"})
UNSURE = frozenset({"", "application/octet-stream", "application/unknown", "unknown/unknown", "text/plain"})
TEXTUAL = frozenset({"text/plain", "application/xml", "text/xml", "application/octet-stream"})
HTML_START = re.compile(rb"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
MARKUP = re.compile(rb"<[a-zA-Z!?/]")
CHUNK_LINE = re.compile(rb"[0-9a-fA-F]{1,8}[ \t]*(?:;[^\r\n]*)?\r?\n")
SNIFFED_BYTES = 4096
HEADERS = 1 << 13
MAX_ENCODINGS = 5
"""Content encodings one inside the other; a stream that inflates to itself would be inflated for each."""
CONTROLS = bytes({*range(1, 9), *range(14, 27), *range(28, 32)})
DEFAULTS = frozenset({"windows-1252", "cp1252", "iso-8859-1"})
"""Charsets that servers declare unasked; under one of these, bytes that look like East Asian text are such text."""
MULTIBYTE = frozenset(
    {"shift_jis", "cp932", "euc_jp", "iso_2022_jp", "gbk", "gb18030", "gb2312", "big5", "euc_kr", "cp949"}
)
UTF8_MARK = b"\xef\xbb\xbf"
MAX_GARBLED = 0.02
"""Share of undecodable characters above which a declared charset is taken for wrong."""


class Undecodable(Exception):
    """A body's encoding is not what the header says."""


def page_of(raw: RawRecord, limits: Limits, seen: set[str]) -> Record | Dropped:
    """Return the HTML page that the record holds, or why it holds none; `seen` gathers the identifiers of pages."""
    try:
        record = WarcRecord.from_reader(BytesIO(_headers(raw.data)), quirks_mode=True)
    except OSError:
        return Dropped(raw.offset, "bad_record")
    if record.record_type != WarcRecordType.response:
        return Dropped(raw.offset, str(record.record_type))
    if not record.is_http:
        return Dropped(raw.offset, "not_http")
    try:
        record.parse_http(quirks_mode=True, strict_mode=False)
    except (OSError, ValueError):
        return Dropped(raw.offset, "bad_http")
    end = len(raw.data) if raw.end is None else raw.end
    stored = bytes(memoryview(raw.data)[end - record.content_length : end])
    reason, body = _html_body(record, stored, limits.page)
    if reason:
        return Dropped(raw.offset, reason)
    identifier = short(record.record_id or "")
    if identifier in seen:
        return Dropped(raw.offset, "duplicate_record_id")
    if identifier:
        seen.add(identifier)
    return Record(
        offset=raw.offset,
        digest=digest_of(stored),
        url=storable((record.headers.get("WARC-Target-URI") or "").strip("<>")),
        crawl_time=utc(record.headers.get("WARC-Date")),
        content=decoded(body, record.http_charset),
        is_html=True,
    )


def _headers(data: bytes | bytearray) -> bytes | bytearray:
    """Return the first bytes of a record if both its headers end there, else all: parsing does not need the body."""
    head = data[:HEADERS]
    return head if head.count(b"\r\n\r\n") > 1 else data


def _html_body(record: WarcRecord, stored: bytes, max_bytes: int) -> tuple[str, bytes]:
    """Return why the response holds no page, or an empty reason and the body."""
    if record.http_headers.status_code != 200:
        return "http_status", b""
    try:
        body = _unwrapped(record, stored, max_bytes)
    except (Undecodable, OSError, EOFError):
        return "bad_encoding", b""
    if len(body) > max_bytes:
        return "too_large", b""
    if not body.strip():
        return "empty", b""
    return _not_html((record.http_content_type or "").lower(), body), body


def _unwrapped(record: WarcRecord, stored: bytes, max_bytes: int) -> bytes:
    """Return the body without its transfer and content encodings, at most one byte longer than `max_bytes`.

    Archives often store the body decoded and keep the header, so an encoding is undone only where the bytes show it.
    """
    headers = record.http_headers
    body = stored
    if "chunked" in (headers.get("Transfer-Encoding") or "").lower() and CHUNK_LINE.match(body):
        body = ChunkedReader(BytesIO(body)).read(max_bytes + 1)
    encodings = (headers.get("Content-Encoding") or "").lower().replace(" ", "").split(",")
    if len(encodings) > MAX_ENCODINGS:
        raise Undecodable("too many encodings")
    for encoding in reversed(encodings):
        body = _decompressed(body, encoding, max_bytes)
    return body


def _decompressed(body: bytes, encoding: str, max_bytes: int) -> bytes:
    if MARKUP.match(body.lstrip()[:2]):
        return body
    readers: dict[str, Any] = {"gzip": GzipReader, "x-gzip": GzipReader, "br": BrotliReader, "zstd": ZstdReader}
    if encoding in readers:
        return bytes(readers[encoding](BytesIO(body)).read(max_bytes + 1))
    if encoding == "deflate":
        try:
            return zlib.decompressobj().decompress(body, max_bytes + 1)
        except zlib.error:
            return _raw_deflate(body, max_bytes)
    return body


def _raw_deflate(body: bytes, max_bytes: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise Undecodable("deflate") from error


def _not_html(declared: str, body: bytes) -> str:
    """Return why the body is not HTML, by its header and its first bytes, or an empty string."""
    found = detect_mime(body[:SNIFFED_BYTES])
    if declared in HTML:
        if found in HTML or (found in TEXTUAL and _reads_as_text(body)):
            return ""
        return "mislabelled"
    if declared in UNSURE and (found in HTML or HTML_START.search(body[:1024])):
        return ""
    return "not_html"


def _reads_as_text(body: bytes) -> bool:
    """Return whether few of the first bytes are controls, but for the zeros of UTF-16 and stray ones in markup."""
    head = body[:SNIFFED_BYTES].replace(b"\0", b"")
    controls = len(head) - len(head.translate(None, CONTROLS))
    return controls <= len(head) // 50 and (b"\0" not in body[:SNIFFED_BYTES] or MARKUP.search(head) is not None)


def decoded(body: bytes, declared: str | None) -> str:
    """Return the body as text: valid UTF-8 wins, then the header, the meta tag and last what the bytes look like.

    NUL and bytes that do not decode become U+FFFD and end nothing.
    """
    if b"\0" not in body:
        if body.isascii() and b"\x1b" not in body:
            return body.decode("ascii")
        return _of_any_charset(body, declared)
    return _of_any_charset(body, declared).replace("\0", REPLACEMENT)


def _of_any_charset(body: bytes, declared: str | None) -> str:
    if not body.isascii():
        with suppress(UnicodeDecodeError):
            return body.removeprefix(UTF8_MARK).decode("utf-8")
    wide = "utf-16" if body.startswith((b"\xff\xfe", b"\xfe\xff")) else _utf16(body[:SNIFFED_BYTES])
    if wide:
        return body.decode(wide, "replace").removeprefix("\ufeff")
    named = map_encoding_to_html5(declared, fallback_utf8=False) if declared else None
    guessed = detect_encoding(body, from_html_meta=True) or "utf-8"
    if named in DEFAULTS and guessed.replace("-", "_").lower() in MULTIBYTE:
        named = None
    text = bytes_to_str(body, named or guessed, errors="replace", fallback_encodings=())
    if text.count(REPLACEMENT) > MAX_GARBLED * len(text):
        other = bytes_to_str(body, detect_encoding(body) or "utf-8", errors="replace", fallback_encodings=())
        text = min(text, other, key=lambda found: found.count(REPLACEMENT))
    return text


def _utf16(head: bytes) -> str:
    """Return the byte order of UTF-16 without a mark, which shows as zeros in every other byte of markup."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) < len(head) // 4 or min(even, odd) > max(even, odd) // 8:
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"
