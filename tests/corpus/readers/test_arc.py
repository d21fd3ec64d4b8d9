"""ARC files: the pages of a crawl are the same in the old format as in WARC, and damage costs one record."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus.readers.arc import arc_records, is_arc
from pipelines.corpus.readers.crawl_pages import crawl_pages
from pipelines.corpus.readers.http_page import page_of
from pipelines.corpus.readers.records import Dropped, Limits, Record
from pipelines.corpus.readers.warc import RawRecord

LIMITS = Limits(record=1_000_000, page=500_000)
MEMBERS = pytest.mark.parametrize("packed", [True, False])


def arc(number: int, length: int = 0, block: bytes | None = None, line: bytes = b"") -> bytes:
    page = b"<html><body>page %d %s</body></html>" % (number, b"x" * (50 + number))
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page if block is None else block
    first = line or b"http://a.example/%d 192.0.2.1 20080430204825 text/html %d\n" % (number, len(block) + length)
    return first + block + b"\n"


def version() -> bytes:
    block = b"2 0 Archive\nURL IP-address Archive-date Content-type Archive-length\n"
    return b"filedesc://a.arc 0.0.0.0 20080430204825 text/plain %d\n" % len(block) + block + b"\n"


def read(path: Path, parts: list[bytes], packed: bool) -> list[Record | Dropped]:
    path.write_bytes(b"".join(gzip.compress(part, mtime=0) if packed else part for part in parts))
    return list(crawl_pages(path, LIMITS))


def outcomes(found: list[Record | Dropped]) -> list[str]:
    return [item.reason if isinstance(item, Dropped) else item.url.rsplit("/", 1)[1] for item in found]


def test_the_pages_of_a_crawl_are_the_same_in_arc_and_in_warc(shared_data: Path) -> None:
    pages = [
        {
            (item.url, item.digest, item.content)
            for item in crawl_pages(shared_data / "crawl" / name, Limits(record=64_000_000, page=4_000_000))
            if isinstance(item, Record)
        }
        for name in ("archive.arc.gz", "archive.warc.gz")
    ]
    assert pages[0] == pages[1]
    assert len(pages[0]) == 94


@MEMBERS
def test_records_come_in_order_with_their_provenance(tmp_path: Path, packed: bool) -> None:
    found = read(
        tmp_path / "a",
        [version(), arc(0), arc(1, block=b"x", line=b"dns:a 1.2.3.4 20080430204825 text/dns 1\n")],
        packed,
    )
    assert outcomes(found) == ["warcinfo", "0", "not_http"]
    page = found[1]
    assert isinstance(page, Record)
    assert (page.url, page.crawl_time) == ("http://a.example/0", "2008-04-30T20:48:25Z")


def test_a_first_line_of_version_two_is_read(tmp_path: Path) -> None:
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>v2</html>"
    line = b"http://a.example/v2 192.0.2.1 20080430204825 text/html 200 sum - 0 a.arc %d\n" % len(body)
    assert outcomes(read(tmp_path / "a.arc", [version(), arc(0, block=body, line=line), arc(1)], False))[1:] == [
        "v2",
        "1",
    ]


@MEMBERS
@pytest.mark.parametrize("length", [-20, 20, 10**15])
def test_a_wrong_length_costs_one_record(tmp_path: Path, packed: bool, length: int) -> None:
    found = read(tmp_path / "a", [version(), arc(0), arc(1, length), arc(2), arc(3)], packed)
    lost = "bad_record" if length < LIMITS.record else "too_large"
    assert outcomes(found) == ["warcinfo", "0", lost, "2", "3"]


@MEMBERS
@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_a_file_cut_anywhere_keeps_what_is_whole(tmp_path: Path, packed: bool, share: float) -> None:
    path = tmp_path / "a.arc"
    whole = outcomes(read(path, [version(), *map(arc, range(8))], packed))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    found = outcomes(list(crawl_pages(path, LIMITS)))
    kept = [name for name in found if name.isdigit()]
    assert kept == whole[1 : len(kept) + 1]
    assert len(found) - len(kept) <= 2


def test_an_arc_file_is_told_by_its_first_bytes_or_its_name(tmp_path: Path) -> None:
    for name, data, told in (
        ("a.gz", gzip.compress(version()), True),
        ("a.arc", b"", True),
        ("A.ARC.GZ", b"", True),
        ("a.warc", b"WARC/1.0\r\n", False),
    ):
        (tmp_path / name).write_bytes(data)
        assert is_arc(tmp_path / name) is told


@settings(max_examples=60)
@given(st.binary(max_size=500), st.integers(0, len(arc(0) + arc(1))), st.booleans())
def test_bytes_spliced_in_anywhere_never_stop_the_reading(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int, packed: bool
) -> None:
    data = arc(0) + arc(1)
    data = data[:at] + junk + b"\n" + data[at:] + arc(2)
    path = tmp_path_factory.mktemp("spliced") / "a.arc"
    path.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    found = list(arc_records(path, LIMITS.record))
    last = next(item for item in reversed(found) if isinstance(item, RawRecord))
    page = page_of(last, LIMITS, set())
    assert isinstance(page, Record)
    assert page.url == "http://a.example/2"
