"""EPUB: the spine's chapters in order, within limits, or a counted reason."""

import io
import random
import struct
import zipfile
from pathlib import Path

import pytest

from pipelines.corpus.readers.epub import epub_record
from pipelines.corpus.readers.records import Dropped, Record
from tests.corpus.sources_bench import LIMITS, PROSE, shown, write_epub2, write_epub3

HEAD = b'<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>'
END = b"</body></html>"
OBFUSCATED = b"""<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"
 xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData>
 <enc:EncryptionMethod Algorithm="http://www.idpf.org/2008/embedding"/>
 <enc:CipherData><enc:CipherReference URI="OEBPS/%s"/></enc:CipherData></enc:EncryptedData></encryption>"""


def test_a_book_of_mkepub_is_read_in_its_order(tmp_path: Path) -> None:
    chapters = {f"{n}": f"<h1>Chapter {n}</h1><p>{PROSE}</p><p>It is &lt;{n}&gt;.</p>" for n in (1, 2, 3)}
    write_epub3(tmp_path / "a.epub", "The Mill", chapters)
    record = epub_record(tmp_path / "a.epub", LIMITS)
    assert isinstance(record, Record)
    places = [record.content.index(f"It is <{number}>.") for number in (1, 2, 3)]
    assert places == sorted(places)
    assert record.content.count(PROSE.strip()) == 3
    assert record.crawl_time


def test_an_epub_2_says_its_number_date_and_licence(tmp_path: Path) -> None:
    body = b'<p>one&nbsp;<i>two</i><br/>three<a id="x"/></p><script/><table><tr><td>a</td><td>b</td></tr></table>'
    write_epub2(
        tmp_path / "a.epub",
        {"a%20b.xhtml".replace("%20", " "): HEAD + body + END, "2.xhtml": HEAD + b"<pre>x\n  y</pre>" + END},
    )
    record = epub_record(tmp_path / "a.epub", LIMITS)
    assert isinstance(record, Record)
    assert record.content == "one two\nthree\n\na\nb\n\nx\n  y"
    assert (record.url, record.crawl_time) == ("urn:isbn:9780000000002", "1998-05-01T00:00:00Z")
    assert record.licence == "CC-BY-SA-4.0"


def test_hidden_fonts_are_no_matter_and_hidden_chapters_are(tmp_path: Path) -> None:
    for hidden in (b"font.otf", b"1.xhtml"):
        more = {"META-INF/encryption.xml": OBFUSCATED % hidden, "font.otf": b"?"}
        write_epub2(tmp_path / hidden.decode(), {"1.xhtml": HEAD + b"text" + END}, more)
    found = [epub_record(tmp_path / name, LIMITS) for name in ("font.otf", "1.xhtml")]
    assert shown(found) == ["text", "encrypted"]


LAUGHS = b"<!DOCTYPE html [<!ENTITY a 'ha'>%s]>" % b"".join(
    b"<!ENTITY %c '%s'>" % (98 + number, b"&%c;" % (97 + number) * 10) for number in range(9)
)


@pytest.mark.parametrize(
    ("chapter", "told"),
    [
        (b"<html><body><p>not closed <b>bold</body></html>", "not closed bold"),
        (LAUGHS + b"<html><body>x&j;y</body></html>", "damaged"),
        (b"<html>" + b"<div>" * 100_000 + b"deep", "damaged"),
        (b"<html><body>" + b"<p>x</p>" * 20_000 + b"</body></html>", "\n\n".join("x" * 20_000)),
        (b"<html><body><p class=plain>x</p><img src=a>y</body></html>", "x\n\ny"),
        (b"", "damaged"),
    ],
    ids=["unclosed", "laughs", "nested", "siblings", "html", "empty"],
)
def test_hostile_chapters_are_read_or_have_a_reason(tmp_path: Path, chapter: bytes, told: str) -> None:
    write_epub2(tmp_path / "a.epub", {"1.xhtml": chapter})
    assert shown([epub_record(tmp_path / "a.epub", LIMITS)]) == [told]


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    write_epub2(tmp_path / "a.epub", {"1.xhtml": HEAD + b" " * 3_000_000 + END})
    write_epub2(tmp_path / "b.epub", {"1.xhtml": HEAD + b" " * 60_000_000 + END})
    found = [epub_record(tmp_path / name, LIMITS) for name in ("a.epub", "b.epub")]
    assert shown(found) == ["decompression_bomb", "too_large"]


def test_a_directory_of_a_million_files_is_not_read(tmp_path: Path) -> None:
    write_epub2(tmp_path / "a.epub", {"1.xhtml": HEAD + b"x" + END})
    body = bytearray((tmp_path / "a.epub").read_bytes())
    struct.pack_into("<I", body, body.rfind(b"PK\5\6") + 12, 0xFFFFFFFF)
    (tmp_path / "a.epub").write_bytes(body)
    assert epub_record(tmp_path / "a.epub", LIMITS) == Dropped(0, "too_complex")


def test_what_is_no_book_has_a_reason(tmp_path: Path) -> None:
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    for number, body in enumerate([b"", b"plain words", b"PK\3\4 cut", other.getvalue()]):
        (tmp_path / f"{number}.epub").write_bytes(body)
    found = [epub_record(tmp_path / f"{number}.epub", LIMITS) for number in range(4)]
    assert shown(found) == ["empty_file", "mislabelled", "damaged", "damaged"]


def test_bytes_that_were_changed_or_cut_never_end_in_a_traceback(tmp_path: Path) -> None:
    write_epub2(tmp_path / "a.epub", {f"{n}.xhtml": HEAD + b"<p>text</p>" * 50 + END for n in range(3)})
    whole, rng = (tmp_path / "a.epub").read_bytes(), random.Random(7)
    for _ in range(300):
        body = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        (tmp_path / "b.epub").write_bytes(body[: rng.randrange(len(body) // 2, 2 * len(body))])
        assert isinstance(epub_record(tmp_path / "b.epub", LIMITS), Record | Dropped)
