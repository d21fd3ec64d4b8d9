"""The ingest stage: every record becomes a document or a counted loss, whatever kills or damages it on the way."""

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.artifacts.stage import Metrics
from pipelines.corpus.documents import document_id, read_documents
from pipelines.corpus.ingest import INGEST, IngestConfig, ingest

CRAWLS = {
    "archive.arc.gz": 93,
    "archive.warc.gz": 93,
    "bad.warc.gz": 1,
    "commoncrawl.warc.gz": 1,
    "quirk.warc.gz": 29,
    "revisits.warc.gz": 16,
    "web-0.warc.gz": 22,
    "web-1.warc.gz": 15,
    "web.warc.lz4": 16,
}


def run(source: Path | str, out: Path, **fields: object) -> Metrics:
    return ingest(IngestConfig.model_validate({"source": str(source), **fields}), out=out)


def outputs(out: Path) -> dict[str, str]:
    files = [path for name in ("documents", "errors") for path in (out / name).rglob("*")]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def errors(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "errors" / "errors.jsonl").read_text().splitlines()]


def conserved(metrics: Metrics) -> bool:
    return metrics["in"] == metrics["kept"] + sum(n for name, n in metrics.items() if name.startswith("dropped."))


def page(number: int) -> bytes:
    return b"<!doctype html><html><body><h1>Page %d</h1><p>%s</p></body></html>" % (number, b"Some words here. " * 20)


def record(number: int, page: bytes, length: int = 0) -> bytes:
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page
    header = (
        b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:%d>\r\nContent-Type: application/http\r\n"
        b"WARC-Target-URI: http://a.example/%d\r\nWARC-Date: 2020-01-01T00:00:00Z\r\nContent-Length: %d\r\n\r\n"
    )
    return header % (number, number, len(block) + length) + block + b"\r\n\r\n"


def warc(numbers: range, length: int = 0) -> bytes:
    wrong = numbers[len(numbers) // 2]
    parts = (record(number, page(number), length * (number == wrong)) for number in numbers)
    return b"".join(gzip.compress(part, mtime=0) for part in parts)


@pytest.mark.parametrize("name", CRAWLS)
def test_real_crawls_give_their_pages_and_count_the_rest(shared_data: Path, tmp_path: Path, name: str) -> None:
    metrics = run(shared_data / "crawl" / name, tmp_path)
    assert metrics["kept"] == CRAWLS[name]
    assert conserved(metrics)
    documents = list(read_documents(tmp_path / "documents"))
    assert len({document.id for document in documents}) == len(documents) == metrics["kept"]
    for document in documents:
        place = document.metadata
        assert document.text.strip()
        assert place["source_uri"] == name
        assert place["url"].startswith("http")
        assert document.id == document_id(place["record_digest"], place["record_offset"])


def test_a_folder_of_crawls_is_a_part_a_file_where_no_two_fit_in_a_shard(shared_data: Path, tmp_path: Path) -> None:
    source = {"kind": "warc", "path": str(shared_data / "crawl")}
    metrics = ingest(IngestConfig.model_validate({"source": source, "shard_bytes": 1_000}), out=tmp_path)
    assert metrics["kept"] == sum(CRAWLS.values())
    assert metrics["dropped.truncated"] == 1
    assert conserved(metrics)
    assert len(list((tmp_path / "documents").iterdir())) == len(CRAWLS) + 1
    assert errors(tmp_path)[0] == {"rows_per_reason_at_most": 100}
    assert {"file": "clipped.warc.gz", "offset": 0, "reason": "truncated", "skipped_bytes": 75657} in errors(tmp_path)


def test_a_crawl_without_a_whole_page_is_no_green_run_of_nothing(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(EmptyOutput, match=r"no document is left \(in 1, kept 0, truncated 1\)"):
        run(shared_data / "crawl" / "clipped.warc.gz", tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.99])
def test_a_truncated_crawl_keeps_its_good_records(tmp_path: Path, share: float) -> None:
    whole = tmp_path / "whole.warc.gz"
    whole.write_bytes(warc(range(20)))
    cut = tmp_path / "cut.warc.gz"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    run(whole, tmp_path / "a")
    metrics = run(cut, tmp_path / "b")
    whole_ones = list(read_documents(tmp_path / "a" / "documents"))
    kept = [document.id for document in read_documents(tmp_path / "b" / "documents")]
    ends = [document.metadata["record_offset"] for document in whole_ones[1:]]
    assert kept == [document.id for document in whole_ones][: len(kept)]
    assert len(kept) - sum(end <= cut.stat().st_size for end in ends) in (0, 1)
    assert metrics["in"] == metrics["kept"] + 1
    assert len(errors(tmp_path / "b")) == 2


@pytest.mark.parametrize("length", [-30, 30, 5_000, 10**15])
def test_a_wrong_content_length_costs_one_record(tmp_path: Path, length: int) -> None:
    (tmp_path / "a.warc.gz").write_bytes(warc(range(9), length))
    metrics = run(tmp_path / "a.warc.gz", tmp_path / "out")
    assert metrics["kept"] == 8
    assert metrics["in"] == 9


def test_the_number_of_workers_changes_no_byte(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.warc.gz").write_bytes(warc(range(number * 10, number * 10 + 10)))
    assert run(f"{tmp_path}/*.warc.gz", tmp_path / "one", workers=1, shard_bytes=1_000) == run(
        f"{tmp_path}/*.warc.gz", tmp_path / "two", workers=2, shard_bytes=1_000
    )
    assert outputs(tmp_path / "one") == outputs(tmp_path / "two")


def test_an_interrupted_run_goes_on_with_equal_bytes(tmp_path: Path) -> None:
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    for number in range(6):
        (crawl / f"{number}.warc.gz").write_bytes(warc(range(number * 150, number * 150 + 150)))
    expected = run(crawl, tmp_path / "whole", shard_bytes=1_000)
    out = tmp_path / "killed"
    code = "import sys; from pathlib import Path; from pipelines.corpus.ingest import *; "
    code += "ingest(IngestConfig.model_validate({'source': sys.argv[1], 'shard_bytes': 1000}), out=Path(sys.argv[2]))"
    child = subprocess.Popen([sys.executable, "-c", code, str(crawl), str(out)], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    while not (out / ".progress" / "shards" / "00001.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    kept = (out / "documents" / "part-00000.parquet").stat().st_mtime_ns
    assert run(crawl, out, shard_bytes=1_000) == expected
    assert outputs(out) == outputs(tmp_path / "whole")
    assert (out / "documents" / "part-00000.parquet").stat().st_mtime_ns == kept


@pytest.mark.parametrize("workers", [1, 2])
def test_only_the_first_documents_are_kept_where_a_limit_is_set(tmp_path: Path, workers: int) -> None:
    for number in range(2):
        (tmp_path / f"{number}.warc.gz").write_bytes(warc(range(number * 10, number * 10 + 10)))
    source = f"{tmp_path}/*.warc.gz"
    run(source, tmp_path / "all")
    metrics = run(source, tmp_path / "some", max_documents=13, workers=workers, shard_bytes=1_000)
    ids = [document.id for document in read_documents(tmp_path / "all" / "documents")]
    assert [document.id for document in read_documents(tmp_path / "some" / "documents")] == ids[:13]
    assert metrics["kept"] == 13
    assert metrics["dropped.over_limit"] == 7
    assert conserved(metrics)


@pytest.mark.parametrize("extractor", ["fast", "quality"])
def test_a_page_that_takes_too_much_time_is_dropped_with_a_reason(tmp_path: Path, extractor: str) -> None:
    slow = b"<p " + b" ".join(b"a%d='<>'" % number for number in range(60_000)) + b">x</p>"
    crawl = warc(range(3)) + gzip.compress(record(3, b"<!doctype html><html><body>" + slow)) + warc(range(4, 7))
    (tmp_path / "a.warc.gz").write_bytes(crawl)
    metrics = run(tmp_path / "a.warc.gz", tmp_path / "out", extractor=extractor, max_page_cpu_seconds=1)
    assert conserved(metrics)
    assert metrics["in"] == 7
    if extractor == "fast":
        assert (metrics["kept"], metrics["dropped.extractor_cpu"]) == (6, 1)
        assert errors(tmp_path / "out")[1]["reason"] == "extractor_cpu"


def test_json_lines_and_parquet_keep_text_as_it_is(tmp_path: Path) -> None:
    rows = [{"text": "  a text\n\nof two parts ", "url": "http://a.example", "crawl_time": "2020-01-01"}, {"text": " "}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        metrics = run(tmp_path / name, tmp_path / f"out-{name}")
        (document,) = read_documents(tmp_path / f"out-{name}" / "documents")
        assert document.text == rows[0]["text"]
        assert document.metadata["crawl_time"] == "2020-01-01T00:00:00Z"
        assert metrics["dropped.empty"] == 1
        assert conserved(metrics)


def test_text_over_the_limit_is_dropped_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "short"}\n' + json.dumps({"text": "long " * 500}) + "\n")
    metrics = run(tmp_path / "a.jsonl", tmp_path / "out", max_text_bytes=1_000)
    assert (metrics["kept"], metrics["dropped.too_large"]) == (1, 1)
    assert errors(tmp_path / "out")[1:] == [{"file": "a.jsonl", "offset": 18, "reason": "too_large"}]


@pytest.mark.parametrize("name", ["a.warc.gz", "a.jsonl", "a.parquet"])
def test_an_empty_file_is_an_empty_output(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(EmptyOutput, match="ingest: no document is left"):
        run(tmp_path / name, tmp_path / "out")


def test_docs_without_objects_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="docs needs the objects of the examples stage"):
        ingest(IngestConfig(), out=tmp_path)


def test_the_stage_resumes_and_names_its_libraries() -> None:
    assert INGEST.resumable
    assert INGEST.config is IngestConfig
    assert {"fastwarc", "resiliparse", "trafilatura"} <= set(INGEST.libraries)


def test_a_lost_page_is_listed_with_its_address(tmp_path: Path) -> None:
    empty = record(1, b"<html><body><script>x()</script></body></html>")
    (tmp_path / "web.warc").write_bytes(record(0, page(0)) + empty + record(0, page(0)))
    run(tmp_path / "web.warc", tmp_path / "out")
    assert [(row["reason"], row["url"]) for row in errors(tmp_path / "out")[1:]] == [
        ("no_text", "http://a.example/1"),
        ("duplicate_record_id", "http://a.example/0"),
    ]
    rows = [{"text": "words", "url": "http://b.example/0"}, {"url": "http://b.example/1"}, {"text": 1, "url": 2}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run(tmp_path / "rows.jsonl", tmp_path / "rows")
    listed = [(row["reason"], row.get("url")) for row in errors(tmp_path / "rows")[1:]]
    assert listed == [("no_text", "http://b.example/1"), ("text_not_a_string", None)]


def test_files_of_other_endings_are_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "rows.jsonl").write_text('{"text": "some words"}\n')
    assert "files_passed_over" not in run(tmp_path / "in", tmp_path / "alone")
    for name in ("b.csv", "a.doc", ".hidden", "deep/c.jsonl.part"):
        (tmp_path / "in" / name).write_text("x")
    assert run(tmp_path / "in", tmp_path / "out")["files_passed_over"] == 3
    assert "3 files of the source are passed over for their endings: a.doc, b.csv, deep/c.js" in capsys.readouterr().err


def test_documents_with_bytes_that_are_no_text_are_counted(tmp_path: Path) -> None:
    lines = [b'{"text": "caf\xe9"}', b'{"text": "plain"}', b'{"text": "a \\ud800 b"}']
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines))
    metrics = run(tmp_path / "rows.jsonl", tmp_path / "out")
    assert (metrics["kept"], metrics["garbled"]) == (3, 2)
    assert run(tmp_path / "rows.jsonl", tmp_path / "one", max_documents=1)["garbled"] == 1
