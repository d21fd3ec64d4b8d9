"""Cutting WARC files into records: good ones are kept whatever stands beside them, and what is lost is counted."""

import gzip
import io
from pathlib import Path

import pytest
import zstandard
from fastwarc.stream_io import Lz4Writer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.corpus.readers.records import Dropped
from pipelines.corpus.readers.warc import RawRecord, raw_records

MAX_BYTES = 1_000_000


def record(number: int, length: int | None = None, block: bytes | None = None, version: bytes = b"WARC/1.0") -> bytes:
    page = b"<html><body>page %d %s</body></html>" % (number, b"x" * (50 + number))
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page if block is None else block
    header = b"\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:%d>\r\nContent-Length: %d\r\n\r\n"
    return version + header % (number, len(block) if length is None else length) + block + b"\r\n\r\n"


def block_length(data: bytes) -> int:
    return len(data) - data.index(b"\r\n\r\n") - 8


def numbers(found: list[RawRecord | Dropped]) -> list[int]:
    whole = [item.data for item in found if isinstance(item, RawRecord)]
    return [int(data.split(b"urn:uuid:")[1].split(b">")[0]) for data in whole]


def reasons(found: list[RawRecord | Dropped]) -> list[str]:
    return [item.reason for item in found if isinstance(item, Dropped)]


def read(path: Path, data: bytes, max_bytes: int = MAX_BYTES) -> list[RawRecord | Dropped]:
    path.write_bytes(data)
    return list(raw_records(path, max_bytes))


def plain(parts: list[bytes]) -> bytes:
    return b"".join(parts)


def members(parts: list[bytes]) -> bytes:
    return b"".join(gzip.compress(part, mtime=0) for part in parts)


def one_member(parts: list[bytes]) -> bytes:
    return gzip.compress(b"".join(parts), mtime=0)


def zstd(parts: list[bytes]) -> bytes:
    return b"".join(zstandard.compress(part) for part in parts)


def lz4(parts: list[bytes]) -> bytes:
    buffer = io.BytesIO()
    writer = Lz4Writer(buffer)
    writer.write(b"".join(parts))
    writer.flush()
    return buffer.getvalue()


PACKINGS = pytest.mark.parametrize("pack", [plain, members, one_member, zstd])
N = block_length(record(2))
DAMAGED = {
    "too short": record(2, length=N - 20),
    "too long": record(2, length=N + 20),
    "far too long": record(2, length=10**17),
    "beyond any number": record(2, length=10**30),
    "negative": record(2, length=-5),
    "not a number": record(2).replace(b"Content-Length: ", b"Content-Length: x"),
    "no length": record(2).replace(b"Content-Length", b"Content-Breadth"),
    "unknown version": record(2, version=b"WARC/7.3"),
    "endless header": record(2).replace(b"WARC-Type", b"X: " + b"a" * 100_000 + b"\r\nWARC-Type"),
    "junk": b"some junk\r\n\r\nand more of it\r\n",
}


@PACKINGS
def test_whole_records_come_in_order(tmp_path: Path, pack: object) -> None:
    found = read(tmp_path / "crawl", pack([record(i) for i in range(5)]))  # type: ignore[operator]
    assert numbers(found) == [0, 1, 2, 3, 4]
    offsets = [item.offset for item in found]
    assert offsets == sorted(set(offsets))


@PACKINGS
@pytest.mark.parametrize("damage", DAMAGED)
def test_one_bad_record_costs_only_itself(tmp_path: Path, pack: object, damage: str) -> None:
    parts = [record(0), record(1), DAMAGED[damage], record(3), record(4)]
    found = read(tmp_path / "crawl", pack(parts))  # type: ignore[operator]
    assert numbers(found) == [0, 1, 3, 4]
    assert len(reasons(found)) == 1
    assert next(item.skipped_bytes for item in found if isinstance(item, Dropped)) > 0


def test_a_record_is_found_again_by_the_offset_of_its_gzip_member(tmp_path: Path) -> None:
    parts = [record(i) for i in range(3)]
    path = tmp_path / "crawl"
    for item in read(path, members(parts)):
        with gzip.GzipFile(fileobj=io.BytesIO(path.read_bytes()[item.offset :])) as member:
            assert isinstance(item, RawRecord)
            assert member.read(len(item.data)) == item.data


def test_a_page_that_quotes_a_record_starts_none(tmp_path: Path) -> None:
    forged = b"text\r\n\r\n" + record(99) + b"text"
    parts = [record(0), record(1), record(2, block=forged), record(3)]
    assert numbers(read(tmp_path / "plain", plain(parts))) == [0, 1, 2, 3]
    parts[2] = record(2, block=forged, length=len(forged) + 7)
    assert numbers(read(tmp_path / "members", members(parts))) == [0, 1, 3]


@pytest.mark.parametrize("pack", [plain, members])
def test_a_record_over_the_limit_is_passed_over_whole(tmp_path: Path, pack: object) -> None:
    large = record(1, block=b"x" * 300_000 + b"\r\n\r\n" + record(99) + b"x" * 300_000)
    found = read(tmp_path / "crawl", pack([record(0), record(5), large, record(2)]), 100_000)  # type: ignore[operator]
    assert numbers(found) == [0, 5, 2]
    assert reasons(found) == ["too_large"]


@pytest.mark.parametrize("pack", [plain, members, one_member, zstd, lz4])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.77, 0.97])
def test_a_file_cut_anywhere_keeps_what_is_whole(tmp_path: Path, pack: object, share: float) -> None:
    data = pack([record(i, block=bytes(range(256)) * 9) for i in range(8)])  # type: ignore[operator]
    found = read(tmp_path / "crawl", data[: int(len(data) * share)])
    assert numbers(found) == list(range(len(numbers(found))))
    assert len(numbers(found)) < 8
    assert len(reasons(found)) <= 1
    whole_up_to = {plain: 8 * share - 1.01, members: 8 * share - 1.5}.get(pack, 0)  # type: ignore[call-overload]
    assert len(numbers(found)) >= whole_up_to


def test_a_damaged_gzip_member_costs_only_itself(tmp_path: Path) -> None:
    parts = [bytearray(gzip.compress(record(i), mtime=0)) for i in range(4)]
    parts[1][40:60] = bytes(20)
    found = read(tmp_path / "crawl", b"".join(parts))
    assert numbers(found) == [0, 2, 3]
    assert len(reasons(found)) == 1


def test_junk_between_gzip_members_is_counted(tmp_path: Path) -> None:
    data = members([record(0)]) + b"\x1fgarbage between" + members([record(1)])
    found = read(tmp_path / "crawl", data)
    assert numbers(found) == [0, 1]
    assert reasons(found) == ["damaged_compression"]


def test_headers_with_bare_line_feeds_are_read(tmp_path: Path) -> None:
    parts = [
        record(i, block=b"HTTP/1.1 200 OK\n\n<html>").replace(b"\r\n", b"\n").replace(b": 24", b": 23")
        for i in range(3)
    ]
    assert numbers(read(tmp_path / "crawl", plain(parts))) == [0, 1, 2]


def test_an_old_archive_of_another_format_is_one_lost_record(shared_data: Path) -> None:
    found = list(raw_records(shared_data / "crawl" / "archive.arc.gz", MAX_BYTES))
    assert reasons(found) == ["bad_record"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=2000), st.integers(0, len(record(0) + record(1))), st.booleans())
def test_bytes_spliced_in_anywhere_never_stop_the_reading(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int, packed: bool
) -> None:
    first, last = record(0) + record(1), record(2)
    data = first[:at] + junk + b"\r\n" + first[at:] + last
    path = tmp_path_factory.mktemp("spliced") / "crawl"
    found = read(path, gzip.compress(data, mtime=0) if packed else data)
    assert [item.data for item in found if isinstance(item, RawRecord)][-1] == last.removesuffix(b"\r\n\r\n")
    assert len(found) < 30
