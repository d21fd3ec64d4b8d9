"""Shards by bytes: every record is read once, whatever the cuts; the plan knows sizes and nothing of workers."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.artifacts.errors import UserError
from pipelines.corpus.documents import read_documents
from pipelines.corpus.ingest import IngestConfig, ingest
from pipelines.corpus.readers.jsonl import json_records
from pipelines.corpus.readers.records import Dropped, Limits
from pipelines.corpus.readers.tables import parquet_records
from pipelines.corpus.sources import byte_shards
from pipelines.corpus.sources.byte_shards import Slice, cut_anywhere, cut_between, grouped, shards_of
from pipelines.corpus.sources.kinds import JsonlSource, ParquetSource, WarcSource

LIMITS = Limits(record=40, page=40)
WHOLE = Slice("a", Path("a"))


@given(size=st.integers(0, 5_000), shard_bytes=st.integers(1, 700))
def test_a_file_cut_anywhere_is_covered_once_in_equal_slices(size: int, shard_bytes: int) -> None:
    sized = cut_anywhere(WHOLE, size, shard_bytes)
    assert sum(held for _, held in sized) == size
    assert all(held <= shard_bytes for _, held in sized)
    assert max(held for _, held in sized) - min(held for _, held in sized) <= 1
    assert [piece.start for piece, _ in sized[1:]] == [piece.end for piece, _ in sized[:-1]]
    assert sized[0][0].start == 0
    assert sized[-1][0].end is None


@given(sizes=st.lists(st.integers(0, 500), min_size=1, max_size=40), shard_bytes=st.integers(1, 700))
def test_row_groups_stay_whole_and_in_order(sizes: list[int], shard_bytes: int) -> None:
    sized = cut_between(WHOLE, sizes, shard_bytes)
    units = [range(len(sizes))[piece.start : piece.end] for piece, _ in sized]
    assert [index for unit in units for index in unit] == list(range(len(sizes)))
    assert all(held <= shard_bytes or len(unit) == 1 for unit, (_, held) in zip(units, sized, strict=True))


@given(sizes=st.lists(st.integers(0, 500), max_size=40), shard_bytes=st.integers(1, 700))
def test_small_files_share_a_shard_and_keep_their_order(sizes: list[int], shard_bytes: int) -> None:
    pieces = [(Slice(str(index), Path(str(index))), size) for index, size in enumerate(sizes)]
    shards = list(grouped(pieces, shard_bytes))
    assert [piece for shard in shards for piece in shard] == [piece for piece, _ in pieces]
    held = [sum(sizes[int(piece.name)] for piece in shard) for shard in shards]
    assert all(total <= shard_bytes or len(shard) == 1 for total, shard in zip(held, shards, strict=True))
    after = [sizes[int(shard[0].name)] for shard in shards[1:]]
    assert all(total + first > shard_bytes for total, first in zip(held, after, strict=False))


line = st.one_of(
    st.builds(lambda text: json.dumps({"text": text}).encode(), st.text(max_size=30)),
    st.sampled_from([b"", b"\r", b" ", b"{bad", b"x" * 90, b'{"text": "' + b"y" * 60 + b'"}', b"\xef\xbb\xbf{}"]),
)


@settings(max_examples=150)
@given(lines=st.lists(line, max_size=12), ended=st.booleans(), shard_bytes=st.integers(1, 120))
def test_the_slices_of_json_lines_hold_each_line_once(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ended: bool, shard_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    path.write_bytes(b"\n".join(lines) + (b"\n" if ended else b""))
    whole = list(json_records(path, "text", "url", LIMITS))
    shards = shards_of(JsonlSource(path=path), {"rows.jsonl": path}, shard_bytes)
    slices = [piece for shard in shards for piece in shard]
    found = [item for piece in slices for item in json_records(path, "text", "url", LIMITS, piece.start, piece.end)]
    assert found == whole
    for item in whole:
        begun = path.read_bytes()[: item.offset]
        assert not begun or begun.endswith(b"\n"), "an offset is where a line begins in the file"


@pytest.mark.parametrize("shard_bytes", [1_000, 5_000, 10_000_000])
def test_the_slices_of_a_table_hold_each_row_once(tmp_path: Path, shard_bytes: int) -> None:
    path = tmp_path / "rows.parquet"
    texts = [f"row {number} " * 20 for number in range(100)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=7, use_dictionary=False)
    (shards) = shards_of(ParquetSource(path=path), {"rows.parquet": path}, shard_bytes)
    found = [
        item
        for shard in shards
        for piece in shard
        for item in parquet_records(path, "text", "url", piece.start, piece.end)
    ]
    assert [item.offset for item in found] == list(range(100))
    assert not any(isinstance(item, Dropped) for item in found)
    assert (len(shards) > 1) == (shard_bytes < 10_000_000)


def test_a_damaged_row_group_costs_only_its_slice(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [f"row {n}" for n in range(900)]}), path, row_group_size=300, compression="zstd")
    data = bytearray(path.read_bytes())
    middle = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data[middle + 20 : middle + 400] = bytes(380)
    path.write_bytes(data)
    metrics = ingest(IngestConfig.model_validate({"source": str(path), "shard_bytes": 1_000}), out=tmp_path / "out")
    assert metrics["in"] == 900
    assert metrics["dropped.damaged_row_group"] <= 300
    offsets = [document.metadata["record_offset"] for document in read_documents(tmp_path / "out" / "documents")]
    assert offsets[-1] == 899


def test_compressed_files_and_crawls_are_not_cut_and_count_for_more(tmp_path: Path) -> None:
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"text": "a"}\n' * 5_000, mtime=0))
    assert shards_of(JsonlSource(path=packed), {"a": packed}, 10) == ((Slice("a", packed),),)
    crawl = {f"{number}.warc.gz": packed for number in range(4)}
    each = packed.stat().st_size * 5
    assert [len(shard) for shard in shards_of(WarcSource(path=packed), crawl, 2 * each)] == [2, 2]


def test_a_file_that_is_no_table_is_a_shard_of_its_own_loss(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    (shard,) = shards_of(ParquetSource(path=tmp_path), {"a": tmp_path / "a.parquet"}, 1_000)
    assert shard == (Slice("a", tmp_path / "a.parquet"),)


def test_too_many_shards_name_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_shards, "MAX_SHARDS", 10)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n" * 1_000)
    with pytest.raises(UserError, match=r"ingest\.shard_bytes: 100 makes 30 shards .* set at least 301"):
        shards_of(JsonlSource(path=path), {"a": path}, 100)


def test_the_documents_are_the_same_at_any_shard_size_and_the_bytes_at_any_number_of_workers(tmp_path: Path) -> None:
    rows = [json.dumps({"text": f"document {number} " * (number % 50)}) for number in range(600)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("\n".join(rows[:500]) + "\nnot json\n")
    for number in range(5):
        (tmp_path / "in" / f"b{number}.jsonl").write_text("\n".join(rows[500 + number * 20 : 520 + number * 20]))
    told = []
    written = []
    for shard_bytes, workers in ((100_000, 1), (20_000, 1), (20_000, 2), (20_000, 4)):
        out = tmp_path / f"{shard_bytes}-{workers}"
        fields = {"source": str(tmp_path / "in"), "shard_bytes": shard_bytes, "workers": workers}
        metrics = ingest(IngestConfig.model_validate(fields), out=out)
        assert metrics["in"] == 601
        told.append(
            [(document.id, document.metadata["record_offset"]) for document in read_documents(out / "documents")]
        )
        files = sorted(path for name in ("documents", "errors") for path in (out / name).iterdir())
        written.append({path.name: path.read_bytes() for path in files})
    assert told[0] == told[1] == told[2] == told[3]
    assert len(written[0]) < len(written[1])
    assert written[1] == written[2] == written[3]
