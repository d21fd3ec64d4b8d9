"""JSON lines: every line is a document or is counted, and no line stops the file."""

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from pipelines.corpus.readers.jsonl import json_records
from pipelines.corpus.readers.records import Dropped, Limits, Record

LIMITS = Limits(record=10_000, page=10_000)
GOOD = b'{"text": "good", "url": "http://a.example/"}'


def read(path: Path, data: bytes) -> list[Record | Dropped]:
    path.write_bytes(data)
    return list(json_records(path, "text", "url", LIMITS))


def shown(found: list[Record | Dropped]) -> list[str]:
    return [item.reason if isinstance(item, Dropped) else item.content for item in found]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "blank_line"),
        (b"  \t", "blank_line"),
        (b"{not json", "bad_json"),
        (b"[1, 2]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
        (b'{"url": "x"}', "no_text"),
        (b'{"text": null}', "no_text"),
        (b'{"text": 7}', "text_not_a_string"),
        (b'{"text": ["a"]}', "text_not_a_string"),
        (b'{"text": "' + b"a" * 50_000 + b'"}', "too_large"),
        (b"[" * 9_000, "bad_json"),
        (b'{"text":' * 1_000, "bad_json"),
    ],
)
def test_a_bad_line_is_counted_and_its_neighbours_kept(tmp_path: Path, line: bytes, reason: str) -> None:
    assert shown(read(tmp_path / "rows.jsonl", b"\n".join([GOOD, line, GOOD]) + b"\n")) == ["good", reason, "good"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'{"text": "a\\ud800b"}', "a�b"),
        (b'{"text": "a\\u0000b"}', "a�b"),
        (b'{"text": "a\xffb"}', "a�b"),
        (b'{"text": "a", "x": NaN}', "a"),
        (b'{"text": "a", "text": "b"}', "b"),
        (b'{"text": "a"}\r', "a"),
        ('{"text": "日本\\ud83d\\ude00"}'.encode(), "日本😀"),
    ],
)
def test_odd_strings_survive_whole(tmp_path: Path, line: bytes, text: str) -> None:
    assert shown(read(tmp_path / "rows.jsonl", line + b"\n")) == [text]


def test_a_line_of_fifty_megabytes_is_passed_over_without_holding_it(tmp_path: Path) -> None:
    found = read(tmp_path / "rows.jsonl", GOOD + b'\n{"text": "' + b"a" * 50_000_000 + b'"}\n' + GOOD)
    assert shown(found) == ["good", "too_large", "good"]
    assert found[2].offset == len(GOOD) + 1 + 50_000_012 + 1


def test_offsets_lead_back_to_the_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"text": f"text {i}" * i}).encode() for i in range(1, 5)]
    for item, line in zip(read(path, b"\n".join(lines)), lines, strict=True):
        assert path.read_bytes()[item.offset :].startswith(line)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
def test_compressed_files_read_like_plain_ones(tmp_path: Path, compress: object) -> None:
    data = b"\xef\xbb\xbf" + GOOD + b"\n\n" + GOOD
    assert shown(read(tmp_path / "rows", compress(data))) == ["good", "blank_line", "good"]  # type: ignore[operator]


def test_a_cut_gzip_keeps_whole_lines_and_counts_the_cut_one(tmp_path: Path) -> None:
    data = gzip.compress(b"".join(b'{"text": "row %d"}\n' % i for i in range(5_000)))
    found = shown(read(tmp_path / "rows.jsonl.gz", data[: len(data) // 2]))
    assert found[-1] == "truncated"
    assert found[:-1] == [f"row {i}" for i in range(len(found) - 1)]
    assert len(found) > 1000


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "rows.jsonl", b"") == []
