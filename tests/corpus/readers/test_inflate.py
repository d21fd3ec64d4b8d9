"""Decompression: bombs are stopped by ratio, members are found, and the quick way gives what the slow one does."""

import gzip
import io
import struct
import zlib
from pathlib import Path

import pytest
import zstandard
from fastwarc.stream_io import Lz4Writer
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus.readers import inflate
from pipelines.corpus.readers.inflate import pieces
from pipelines.corpus.readers.jsonl import json_records
from pipelines.corpus.readers.records import Dropped, Limits
from pipelines.corpus.readers.warc import RawRecord, raw_records

ZEROS = bytes(1 << 20)


def deflated(megabytes: int) -> bytes:
    """A gzip member of that many megabytes of zeros, about a thousandth of its size."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(ZEROS) for _ in range(megabytes)) + packer.flush()


def warc_record(number: int, block: bytes = b"x" * 100) -> bytes:
    header = b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:%d>\r\nContent-Length: %d\r\n\r\n"
    return header % (number, len(block)) + block + b"\r\n\r\n"


def test_a_gzip_bomb_costs_its_member_and_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(gzip.compress(warc_record(0)) + deflated(100) + gzip.compress(warc_record(1)))
    found = list(raw_records(path, 1_000_000))
    assert [isinstance(item, RawRecord) for item in found] == [True, False, True]
    assert isinstance(found[1], Dropped)
    out = sum(len(piece.data) for piece in pieces(path))
    assert out < inflate.BOMB_FLOOR + 2 * inflate.WHOLE
    assert max(len(piece.data) for piece in pieces(path)) <= inflate.WHOLE


def test_a_bomb_in_json_lines_is_a_counted_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "first"}\n') + deflated(100) + gzip.compress(b'\n{"text": "last"}\n'))
    found = list(json_records(path, "text", "url", Limits(record=1_000_000, page=1_000_000)))
    told = [item.reason if isinstance(item, Dropped) else item.content for item in found]
    assert (told[0], told[-1]) == ("first", "last")
    assert all(isinstance(item, Dropped) for item in found[1:-1])


def test_a_zstd_bomb_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.zst"
    path.write_bytes(zstandard.compress(warc_record(0)) + zstandard.compress(bytes(300 << 20)))
    assert sum(len(piece.data) for piece in pieces(path)) < 200 << 20
    assert [piece.broken for piece in pieces(path) if piece.broken][:1] == ["decompression_bomb"]


def test_text_that_repeats_itself_is_no_bomb(tmp_path: Path) -> None:
    letter = "a form letter that is sent to everybody in the country at the same time, " * 18
    rows = "".join(f'{{"id": {number}, "text": "{letter}"}}\n' for number in range(60_000)).encode()
    assert len(rows) > inflate.BOMB_FLOOR
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(rows))
    assert not any(piece.broken for piece in pieces(tmp_path / "a.jsonl.zst"))


def test_a_member_that_says_a_wrong_size_is_broken_and_costs_itself(tmp_path: Path) -> None:
    bad = gzip.compress(warc_record(1))
    for wrong in (0, 1, 2**32 - 1):
        path = tmp_path / "a.warc.gz"
        lying = bad[:-4] + struct.pack("<I", wrong)
        path.write_bytes(gzip.compress(warc_record(0)) + lying + gzip.compress(warc_record(2)))
        found = [item for item in raw_records(path, 1_000_000) if isinstance(item, RawRecord)]
        numbers = [bytes(item.data).split(b"urn:uuid:")[1][:1] for item in found]
        assert (numbers[0], numbers[-1]) == (b"0", b"2")


def test_lz4_and_zstd_members_are_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    writer = Lz4Writer(buffer)
    writer.write(warc_record(0) + warc_record(1))
    writer.flush()
    (tmp_path / "a.warc.lz4").write_bytes(buffer.getvalue())
    (tmp_path / "a.warc.zst").write_bytes(zstandard.compress(warc_record(0)) + zstandard.compress(warc_record(1)))
    for name in ("a.warc.lz4", "a.warc.zst"):
        assert len([item for item in raw_records(tmp_path / name, 10_000) if isinstance(item, RawRecord)]) == 2


BLOCKS = st.lists(
    st.one_of(st.binary(max_size=300), st.sampled_from([b"\x1f\x8b\x08" * 9, b"", b"\r\n\r\n", bytes(5_000)])),
    max_size=6,
)


@settings(max_examples=80)
@given(BLOCKS, st.binary(max_size=6), st.integers(0, 9), st.sampled_from([0, 1]))
def test_the_quick_way_gives_what_the_slow_one_does(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[bytes], junk: bytes, at: int, level: int
) -> None:
    path = tmp_path_factory.mktemp("quick") / "a"
    members = [gzip.compress(warc_record(number, block), level, mtime=0) for number, block in enumerate(blocks)]
    members[min(at, len(members)) : 0] = [junk]
    path.write_bytes(gzip.compress(warc_record(99), mtime=0) + b"".join(members))
    quick = [_told(item) for item in raw_records(path, 10_000)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inflate, "_whole_member", lambda held, start: None)
        assert quick == [_told(item) for item in raw_records(path, 10_000)]
    assert quick[0][1] == warc_record(99)[:-4]


def _told(item: RawRecord | Dropped) -> tuple[int, bytes | str]:
    return (item.offset, item.reason if isinstance(item, Dropped) else bytes(item.data[: item.end]))
