"""Parquet: every row is a document or is counted; a column that is not there is the user's to mend."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.artifacts.errors import UserError
from pipelines.corpus.readers.records import Dropped, Record
from pipelines.corpus.readers.tables import parquet_records


def read(path: Path) -> list[Record | Dropped]:
    return list(parquet_records(path, "text", "url"))


def shown(found: list[Record | Dropped]) -> list[str]:
    return [item.reason if isinstance(item, Dropped) else item.content for item in found]


def test_rows_come_in_order_with_their_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["a", None, "", "é"], "url": ["u", "v", None, "w"], "n": [1, 2, 3, 4]}), path)
    found = read(path)
    assert shown(found) == ["a", "no_text", "", "é"]
    assert [item.offset for item in found] == [0, 1, 2, 3]


def test_invalid_utf8_and_nul_survive(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    raw = pa.array([b"a\xffb", b"a\x00b"], pa.binary())
    pq.write_table(pa.table({"text": pa.StringArray.from_buffers(2, raw.buffers()[1], raw.buffers()[2])}), path)
    assert shown(read(path)) == ["a�b", "a�b"]


@pytest.mark.parametrize("table", [pa.table({"body": ["a"]}), pa.table({"text": [1, 2]}), pa.table({})])
def test_a_table_without_such_a_column_names_what_it_has(tmp_path: Path, table: pa.Table) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(table, path)
    with pytest.raises(UserError, match=r"column 'text' of 'rows.parquet' .*ingest.source.text_field"):
        read(path)


def test_a_table_of_no_rows_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    assert read(path) == []


@pytest.mark.parametrize("kept", [0, 3, 100, -1, -5])
def test_a_cut_file_is_one_lost_record(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["words"] * 500}), path)
    path.write_bytes(path.read_bytes()[:kept])
    assert shown(read(path)) == ["unreadable_file"]


def test_rows_behind_damaged_bytes_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [f"row {i}" for i in range(900)]}), path, row_group_size=300, compression="zstd")
    data = bytearray(path.read_bytes())
    middle = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data[middle + 20 : middle + 400] = bytes(380)
    path.write_bytes(data)
    found = read(path)
    lost = [item for item in found if isinstance(item, Dropped)]
    assert len(lost) == 1
    assert len(found) - 1 + lost[0].count == 900
    assert len(found) - 1 >= 200
