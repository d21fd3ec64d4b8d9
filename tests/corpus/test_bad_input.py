"""Bad input through the stages: a counted reason or one line, in linear time; `docs/bad-input.md` lists it."""

import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.artifacts.build import build
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.store import Store
from pipelines.corpus.dedup import DedupConfig, dedup
from pipelines.corpus.ingest import INGEST, IngestConfig, ingest
from pipelines.corpus.readers.crawl_pages import crawl_pages
from pipelines.corpus.readers.markup import parsed_xml
from pipelines.corpus.readers.pdf import flowing
from pipelines.corpus.readers.records import Limits, Record
from tests.corpus.sources_bench import PROSE, ingested
from tests.corpus.test_extraction import PARAGRAPH
from tests.corpus.test_ingest import outputs, page, record

ROOT = Path(__file__).resolve().parents[2]
LIMITS = Limits(record=1_000_000, page=1_000_000)
NESTED_MEMBER = b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + b"\0" + struct.pack("<HH", 60_010, 60_010 ^ 0xFFFF)
"""A gzip header and the head of a stored block that ends where, fifteen bytes a step, the next such head stands."""
ENDLESS = {
    "a.warc": b"WARC/1.0\r\n" * 20_000 + b"\r\n\r\n",
    "a.warc.gz": NESTED_MEMBER * 20_000,
    "a.arc": b"filedesc:\n" + b"a:" * 200_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_an_archive_made_of_beginnings_takes_linear_time(tmp_path: Path, name: str) -> None:
    body = ENDLESS[name]
    (tmp_path / name).write_bytes(body + (b"" if name == "a.arc" else record(1, page(1))))
    found = list(crawl_pages(tmp_path / name, LIMITS))
    assert 1 <= len(found) <= 20_001
    assert name != "a.warc" or isinstance(found[-1], Record)


def test_a_time_that_is_none_leaves_the_row(tmp_path: Path) -> None:
    nested = "[" * 900 + "]" * 900
    (tmp_path / "a.jsonl").write_text(f'{{"text": "a", "crawl_time": {nested}}}\n{{"text": "b", "crawl_time": {{}}}}\n')
    _, documents = ingested(tmp_path / "a.jsonl", tmp_path / "rows")
    assert [(document.text, document.metadata["crawl_time"]) for document in documents] == [("a", ""), ("b", "")]
    for number, kind in enumerate((pa.timestamp("us"), pa.timestamp("us", "No/Where"))):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"text": ["a"], "crawl_time": pa.array([2**62], kind)}), path)
        _, documents = ingested(path, tmp_path / f"out-{number}")
        assert [document.metadata["crawl_time"] for document in documents] == [""]


def test_categories_of_a_table_are_texts(tmp_path: Path) -> None:
    columns = {name: pa.array(["a", "b", "a"]).dictionary_encode() for name in ("text", "url")}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    _, documents = ingested(tmp_path / "a.parquet", tmp_path / "out")
    assert [(document.text, document.metadata["url"]) for document in documents] == [("a", "a"), ("b", "b"), ("a", "a")]


def test_an_address_without_end_is_dropped_with_a_reason(tmp_path: Path) -> None:
    rows = [{"text": "a", "url": "http://a.example/" + "x" * size} for size in (0, 60_000, 100_000)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics, documents = ingested(tmp_path / "a.jsonl", tmp_path / "out")
    assert len(documents) == 2
    assert metrics["dropped.long_url"] == 1


def test_a_million_named_characters_are_resolved_in_linear_time() -> None:
    root = parsed_xml(b'<!DOCTYPE html PUBLIC "x" "y"><p>a' + b"&nbsp;" * 300_000 + b"<b/>&eacute;&nope;c<i/>d</p>")
    assert root.text == "a" + "\N{NO-BREAK SPACE}" * 300_000
    assert [(child.tag, child.tail) for child in root] == [("b", "éc"), ("i", "d")]


def test_a_page_of_one_endless_paragraph_flows_in_linear_time() -> None:
    lines = ["word " * 15 + "word"] * 50_000
    assert flowing(["\n".join(lines)]) == " ".join(lines)


def test_ids_of_a_strangers_rows_name_nothing_and_copies_are_deduplicated(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        rows = [{"id": odd, "text": f"{PROSE} {odd!r}"} for odd in ("../../etc/passwd", "a/b", "a\nb", "x" * 1_000)]
        (tmp_path / "in" / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics, documents = ingested(tmp_path / "in", tmp_path / "out")
    assert metrics["kept"] == 8
    assert all(len(document.id) == 32 and document.id.isalnum() for document in documents)
    found = dedup(DedupConfig(threshold=1), documents=tmp_path / "out" / "documents", out=tmp_path / "unique")
    assert (found["in"], found["kept"], found["dropped.exact"]) == (8, 4, 4)


@pytest.mark.parametrize("name", ["x" * 300 + ".jsonl", "pipe.jsonl", "/dev/zero", "/proc/self/mem"])
def test_a_path_that_is_no_file_is_one_line(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    store = Store(tmp_path / "store")
    store.prepare()
    with pytest.raises(UserError, match=r"is no regular file|cannot be read \((File name too long|Input/output error)"):
        config = IngestConfig.model_validate({"source": {"kind": "text", "path": str(tmp_path / name)}})
        build(store, INGEST, config, {}, node="ingest")
    if len(name) > 255:
        with pytest.raises(UserError, match="File name too long"):
            IngestConfig.model_validate({"source": str(tmp_path / name)})


def test_the_store_inside_a_local_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n')
    source = {"kind": "hub", "dataset": str(tmp_path)}
    with pytest.raises(UserError, match="holds the store, which would read its own output"):
        ingest(IngestConfig.model_validate({"source": source}), out=tmp_path / "store" / "out")


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in" / "closed").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_text(PROSE)
    scan = os.scandir

    def refuse(place: str) -> object:  # the tests may run as root, whom no permission stops
        if str(place).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
        ingested(tmp_path / "in", tmp_path / "out")


def test_a_source_that_changes_while_it_is_read_publishes_nothing(tmp_path: Path, store: Store) -> None:
    source = tmp_path / "a.txt"
    source.write_text(PROSE)

    def meanwhile(config: IngestConfig, *, out: Path) -> Metrics:
        counts = ingest(config, out=out)
        source.write_text(PROSE.upper())
        return counts

    config = IngestConfig.model_validate({"source": str(source)})
    with pytest.raises(UserError, match="ingest: its source changed while it was read; run again"):
        build(store, replace(INGEST, run=meanwhile), config, {}, node="ingest")
    assert list(store.manifests()) == []
    assert build(store, INGEST, config, {}, node="ingest").manifest.metrics["kept"] == 1


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from pipelines.artifacts.build import build
from pipelines.artifacts.errors import StageFailed
from pipelines.artifacts.store import Store
from pipelines.corpus.dedup import DEDUP, DedupConfig
from pipelines.corpus.ingest import INGEST, IngestConfig
store = Store(Path(sys.argv[1]))
store.prepare()
config = IngestConfig.model_validate({"source": sys.argv[2]})
found = build(store, INGEST, config, {}, node="ingest").artifact if sys.argv[3] == "dedup" else None
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        built = (
            build(store, INGEST, config, {}, node="ingest")
            if found is None
            else build(store, DEDUP, DedupConfig(), {"documents": found["documents"]}, node="dedup")
        )
        print(built.manifest.metrics["in"], flush=True)
    except StageFailed as error:
        print(error, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["ingest", "dedup"])
def test_a_full_disk_is_one_line_and_the_rerun_finishes(tmp_path: Path, stage: str) -> None:
    rows = "".join(json.dumps({"text": " ".join(str(word * seed) for word in range(400))}) + "\n" for seed in range(99))
    (tmp_path / "a.jsonl").write_text(rows)
    arguments = [sys.executable, "-c", FULL_DISK, str(tmp_path / "store"), str(tmp_path / "a.jsonl"), stage]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, check=False)
    first, *rest = done.stdout.splitlines()
    assert f"{stage}: no space left on the disk" in first, done.stderr
    assert rest == ["99.0"], done.stderr


@pytest.mark.slow
def test_a_locale_that_knows_no_utf_8_changes_no_byte(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"text": f"Grüße, 日本. {PROSE * 3} {number}"}) + "\n" for number in range(3))
    (tmp_path / "a.jsonl").write_text(rows)
    code = "import sys; from pathlib import Path; from pipelines.corpus.ingest import *; "
    code += "from pipelines.corpus.dedup import *; out = Path(sys.argv[1]); "
    code += f"ingest(IngestConfig.model_validate({{'source': {str(tmp_path / 'a.jsonl')!r}}}), out=out / 'ingest'); "
    code += "dedup(DedupConfig(), documents=out / 'ingest' / 'documents', out=out / 'dedup')"
    made = []
    for name, locale in (("c", "C"), ("utf8", "C.UTF-8")):
        environment = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Asia/Tokyo"}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], env=environment, cwd=ROOT, check=True)
        summary = (tmp_path / name / "dedup" / "clusters" / "summary.json").read_bytes()
        made.append((outputs(tmp_path / name / "ingest"), outputs(tmp_path / name / "dedup"), summary))
    assert made[0] == made[1]
    assert "日本".encode() in made[0][2]


@pytest.mark.slow
@pytest.mark.parametrize("extractor", ["fast", "quality"])
@pytest.mark.parametrize(
    "body", ["<div>" * 300, "<div>" * 10_000, "<b>" * 1_000_000, "<p>x</p>" * 200_000], ids=lambda body: body[:10]
)
def test_pages_of_any_depth_and_width_are_documents_or_counted(tmp_path: Path, extractor: str, body: str) -> None:
    hostile = f"<!doctype html><html><body>{body}{PARAGRAPH}".encode()
    (tmp_path / "a.warc").write_bytes(record(1, page(1)) + record(2, hostile) + record(3, page(3)))
    metrics, documents = ingested(tmp_path / "a.warc", tmp_path / "out", extractor=extractor)
    assert metrics["in"] == 3
    assert len(documents) >= 2
