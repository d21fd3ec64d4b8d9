"""Plain text: of any charset, whole, or a counted reason."""

from pathlib import Path

import pytest

from pipelines.corpus.readers.records import Dropped, Record
from pipelines.corpus.readers.text_files import text_record
from tests.corpus.sources_bench import LIMITS, PROSE

POLISH = "Zażółć gęślą jaźń, a potem wróć do domu i opowiedz o tym wszystkim swoim przyjaciołom. " * 8
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。" * 8


@pytest.mark.parametrize(
    ("text", "charset"),
    [
        (POLISH, "utf-8"),
        (POLISH, "utf-8-sig"),
        (POLISH, "utf-16"),
        (POLISH, "windows-1250"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (PROSE, "ascii"),
    ],
)
def test_the_charset_is_found_by_the_bytes(tmp_path: Path, text: str, charset: str) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(charset))
    record = text_record(tmp_path / "a.txt", LIMITS)
    assert isinstance(record, Record)
    assert record.content == text


def test_lines_end_in_one_character_and_odd_bytes_cost_only_themselves(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"# one\r\ntwo\rthree\n a\0b \xff end" + PROSE.encode())
    record = text_record(tmp_path / "a.md", LIMITS)
    assert isinstance(record, Record)
    assert record.content.startswith("# one\ntwo\nthree\n a\ufffdb ")
    assert record.content.endswith(f" end{PROSE}")
    assert not {"\r", "\0"} & set(record.content)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty_file"),
        (b" \n\t ", "empty_file"),
        (bytes(range(256)) * 40, "binary"),
        (b"\x7fELF\x02\x01\x01" + b"\0" * 500, "binary"),
        (b"a" * (LIMITS.record + 1), "too_large"),
    ],
)
def test_what_is_no_text_has_a_reason(tmp_path: Path, body: bytes, reason: str) -> None:
    (tmp_path / "a.txt").write_bytes(body)
    assert text_record(tmp_path / "a.txt", LIMITS) == Dropped(0, reason)


def test_a_file_that_is_gone_has_a_reason(tmp_path: Path) -> None:
    assert text_record(tmp_path / "gone.txt", LIMITS) == Dropped(0, "unreadable_file")
