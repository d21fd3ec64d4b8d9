"""HTTP responses to pages: encodings undone, HTML told from what only says it is, text in any charset."""

import gzip
import hashlib
import zlib
from collections.abc import Callable
from functools import partial

import brotli
import pytest
import zstandard

from pipelines.corpus.readers.http_page import decoded, page_of
from pipelines.corpus.readers.records import Dropped, Limits, Record
from pipelines.corpus.readers.warc import RawRecord

LIMITS = Limits(record=1_000_000, page=100_000)
PAGE = b"<!doctype html><html><body><p>Good text.</p></body></html>"
JAPANESE = "<html><title>日本語</title><body>" + "これは日本語の文章です。長いテキスト。" * 10 + "</body></html>"


def response(body: bytes = PAGE, headers: str = "Content-Type: text/html", status: str = "200 OK") -> RawRecord:
    head = f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode()
    return raw(b"response", head + body)


def raw(kind: bytes, block: bytes, content_type: bytes = b"application/http; msgtype=response") -> RawRecord:
    header = (
        b"WARC/1.0\r\nWARC-Type: %s\r\nWARC-Record-ID: <urn:uuid:1>\r\nWARC-Target-URI: <http://a.example/>\r\n"
        b"WARC-Date: 2020-01-02T03:04:05.678+01:00\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    )
    return RawRecord(7, header % (kind, content_type, len(block)) + block)


def outcome(record: RawRecord) -> str:
    found = page_of(record, LIMITS, set())
    return found.reason if isinstance(found, Dropped) else "page"


def test_a_page_keeps_its_provenance() -> None:
    page = page_of(response(), LIMITS, set())
    assert isinstance(page, Record)
    assert (page.offset, page.url, page.crawl_time) == (7, "http://a.example/", "2020-01-02T02:04:05Z")
    assert page.digest == f"sha256:{hashlib.sha256(PAGE).hexdigest()}"
    assert page.content == PAGE.decode()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (response(status="404 Not Found"), "http_status"),
        (response(status="301 Moved"), "http_status"),
        (response(b""), "empty"),
        (response(b" \n "), "empty"),
        (response(headers="Content-Type: application/json", body=b'{"a": 1}'), "not_html"),
        (response(headers="Content-Type: text/plain", body=b"plain words"), "not_html"),
        (response(b"%PDF-1.4\n" + b"%\xe2\xe3\xcf\xd3\n" * 50), "mislabelled"),
        (response(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(256)) * 9), "mislabelled"),
        (response(bytes(range(256)) * 20), "mislabelled"),
        (response(b"<p>" + b"x" * 200_000), "too_large"),
        (raw(b"request", b"GET / HTTP/1.1\r\n\r\n"), "request"),
        (raw(b"revisit", b""), "revisit"),
        (raw(b"warcinfo", b"software: x"), "warcinfo"),
        (raw(b"response", b"20200101 a.example 1.2.3.4", b"text/dns"), "not_http"),
    ],
)
def test_what_is_no_page_is_dropped_with_a_reason(record: RawRecord, reason: str) -> None:
    assert outcome(record) == reason


def test_a_second_record_of_the_same_identifier_is_dropped() -> None:
    seen: set[str] = set()
    assert isinstance(page_of(response(), LIMITS, seen), Record)
    second = page_of(response(), LIMITS, seen)
    assert isinstance(second, Dropped)
    assert second.reason == "duplicate_record_id"


@pytest.mark.parametrize("headers", ["X: y", "Content-Type: application/octet-stream", "Content-Type: text/plain"])
def test_html_that_does_not_say_so_is_sniffed(headers: str) -> None:
    assert outcome(response(headers=headers)) == "page"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("Content-Encoding: gzip", gzip.compress(PAGE)),
        ("Content-Encoding: deflate", zlib.compress(PAGE)),
        ("Content-Encoding: deflate", zlib.compress(PAGE)[2:-4]),
        ("Content-Encoding: gzip", PAGE),
        ("Content-Encoding: br", PAGE),
        ("Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(PAGE), PAGE)),
        ("Transfer-Encoding: chunked", PAGE),
        (
            "Transfer-Encoding: chunked\r\nContent-Encoding: gzip",
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(gzip.compress(PAGE)), gzip.compress(PAGE)),
        ),
    ],
)
def test_encodings_are_undone_where_the_bytes_show_them(encoding: str, body: bytes) -> None:
    page = page_of(response(body, f"Content-Type: text/html\r\n{encoding}"), LIMITS, set())
    assert isinstance(page, Record)
    assert page.content == PAGE.decode()


def test_a_body_that_unpacks_to_gigabytes_is_stopped_at_the_limit() -> None:
    bomb = gzip.compress(b"<p>" + bytes(50_000_000))
    assert outcome(response(bomb, "Content-Type: text/html\r\nContent-Encoding: gzip")) == "too_large"


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("br", partial(brotli.compress, quality=3)),
        ("zstd", zstandard.compress),
        ("deflate", zlib.compress),
        ("x-gzip", gzip.compress),
    ],
)
def test_a_bomb_in_any_encoding_is_stopped_at_the_limit(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(b"<p>" + bytes(30_000_000))
    assert outcome(response(bomb, f"Content-Type: text/html\r\nContent-Encoding: {encoding}")) == "too_large"
    assert outcome(response(pack(PAGE), f"Content-Type: text/html\r\nContent-Encoding: {encoding}")) == "page"


def test_encodings_without_end_are_not_undone() -> None:
    headers = "Content-Type: text/html\r\nContent-Encoding: " + ", ".join(["gzip"] * 1_000)
    assert outcome(response(gzip.compress(PAGE), headers)) == "bad_encoding"


@pytest.mark.parametrize("said", ["-1", "99999999999999999999", "5", "x", ""])
def test_the_length_that_a_server_said_does_not_matter(said: str) -> None:
    page = page_of(response(headers=f"Content-Type: text/html\r\nContent-Length: {said}"), LIMITS, set())
    assert isinstance(page, Record)
    assert page.content == PAGE.decode()


@pytest.mark.parametrize("language", ["de", "ja", "xx-nonsense", "\xff"])
def test_a_language_that_lies_changes_nothing(language: str) -> None:
    headers = f"Content-Type: text/html; charset=latin-1\r\nContent-Language: {language}"
    page = page_of(response("<html><p>Grüße</p></html>".encode(), headers), LIMITS, set())
    assert isinstance(page, Record)
    assert page.content == "<html><p>Grüße</p></html>"


def test_a_body_that_is_not_in_its_encoding_is_dropped() -> None:
    record = response(b"\x99\x98 no such thing" * 9, "Content-Type: text/html\r\nContent-Encoding: deflate")
    assert outcome(record) == "bad_encoding"


@pytest.mark.parametrize("charset", ["utf-8", "shift_jis", "euc-jp", "gb18030", "utf-16"])
@pytest.mark.parametrize("declared", [None, "utf-8", "windows-1252", "no-such-charset"])
def test_bytes_win_over_a_wrong_charset(charset: str, declared: str | None) -> None:
    assert "長いテキスト" in decoded(JAPANESE.encode(charset), declared)


def test_utf16_without_a_mark_is_told_by_its_zeros() -> None:
    text = "<html><body><p>Grüße aus Köln, plain enough.</p></body></html>"
    assert decoded(text.encode("utf-16-le"), None) == text
    assert decoded(text.encode("utf-16-be"), "utf-8") == text


@pytest.mark.parametrize("damage", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\x00", b"\xf4\x90\x80\x80"])
def test_text_after_bytes_that_do_not_decode_is_kept(damage: bytes) -> None:
    body = b"<html><body>" + "naïve words ".encode() * 30 + damage + b" and the end</body></html>"
    page = page_of(response(body), LIMITS, set())
    assert isinstance(page, Record)
    assert page.content.endswith("and the end</body></html>")
    assert "naïve" in page.content
    page.content.encode()
