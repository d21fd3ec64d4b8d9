"""Saved pages: decoded as a crawl's are, with the address that they state."""

from pathlib import Path

import pytest

from pipelines.corpus.readers.html_files import html_record, own_url
from pipelines.corpus.readers.records import Dropped, Record
from tests.corpus.sources_bench import LIMITS, PROSE


@pytest.mark.parametrize(
    ("html", "url"),
    [
        ("<!-- saved from url=(0022)http://a.example/page -->\n<html>", "http://a.example/page"),
        ('<link href="https://a.example/?a=1&amp;b=2" rel="canonical">', "https://a.example/?a=1&b=2"),
        ("<link rel=canonical href=https://a.example/x>", "https://a.example/x"),
        ('<link rel="stylesheet" href="https://a.example/style.css">', ""),
        ('<link rel="canonical" href="/relative">', ""),
        ("<a href='http://a.example/'>elsewhere</a>", ""),
    ],
)
def test_a_page_states_its_address_or_has_none(html: str, url: str) -> None:
    assert own_url(html) == url


def test_a_page_is_decoded_by_its_bytes(tmp_path: Path) -> None:
    body = f"<!doctype html><meta charset=windows-1252><p>naïve café. {PROSE}".encode("windows-1252")
    (tmp_path / "a.htm").write_bytes(body)
    record = html_record(tmp_path / "a.htm", LIMITS)
    assert isinstance(record, Record)
    assert "naïve café" in record.content
    assert record.is_html


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty_file"),
        (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" + bytes(range(1, 255)) * 9, "mislabelled"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(1, 32)) * 90, "mislabelled"),
        (b"<p>" + b"a" * LIMITS.page, "too_large"),
    ],
)
def test_what_is_no_page_has_a_reason(tmp_path: Path, body: bytes, reason: str) -> None:
    (tmp_path / "a.html").write_bytes(body)
    assert html_record(tmp_path / "a.html", LIMITS) == Dropped(0, reason)
