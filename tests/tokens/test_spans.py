from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.artifacts.errors import UserError
from pipelines.tokens.spans import Spans


def write(folder: Path, lengths: list[int], per_group: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    names = [f"doc-{number}" for number in range(len(lengths))]
    table = pa.table({"document_id": names, "start": starts, "length": lengths})
    pq.write_table(table, folder / "spans.parquet", row_group_size=per_group)
    return folder


@settings(max_examples=50)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=20),
    places=st.lists(st.tuples(st.integers(0, 190), st.integers(1, 40)), max_size=5),
)
def test_the_documents_of_some_places_are_all_that_reach_into_them(
    lengths: list[int], places: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    spans = Spans(write(tmp_path_factory.mktemp("spans"), lengths))
    asked = [(start, start + size) for start, size in places]
    owners = [number for number, length in enumerate(lengths) for _ in range(length)]
    expected = {f"doc-{number}" for start, end in asked for number in owners[start:end]}
    found = spans.documents(asked)
    assert set(found) == expected and len(found) == len(expected)
    assert [int(length) for part in spans.lengths() for length in part] == lengths


@pytest.mark.parametrize("column", ["document_id", "start", "length"])
def test_a_missing_column_is_named(column: str, tmp_path: Path) -> None:
    table = pq.read_table(write(tmp_path, [2, 3]) / "spans.parquet").drop_columns([column])
    pq.write_table(table, tmp_path / "spans.parquet")
    with pytest.raises(UserError, match=r"spans\.parquet cannot be read .*artifacts verify"):
        Spans(tmp_path).documents([(0, 4)])


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"spans\.parquet cannot be read"):
        Spans(tmp_path).documents([(0, 4)])
