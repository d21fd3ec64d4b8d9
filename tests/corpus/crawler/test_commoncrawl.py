"""Common Crawl over a loopback mirror: what is chosen, read and counted, whatever happens on the way."""

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.stage import Metrics
from pipelines.corpus.crawler.commoncrawl import chosen_files, fetch_file
from pipelines.corpus.documents import read_documents
from pipelines.corpus.ingest import IngestConfig, ingest
from tests.corpus.crawler.mirror import CRAWL, Drops, Mirror, mirroring, path_of, real_files, slow, source
from tests.corpus.crawler.site import Handler

ROOT = Path(__file__).resolve().parents[3]


def run(url: str, out: Path, **fields: object) -> Metrics:
    workers = int(str(fields.pop("workers", 1)))
    return ingest(IngestConfig(source=source(url, **fields), workers=workers), out=out)


def outputs(out: Path) -> dict[str, str]:
    files = [path for name in ("documents", "errors") for path in (out / name).rglob("*")]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def test_files_of_a_crawl_are_read_as_if_they_were_here(shared_data: Path, tmp_path: Path) -> None:
    with mirroring(contents=real_files(shared_data)) as (mirror, url):
        metrics = run(url, tmp_path / "remote")
        assert [mirror.sent(path_of(number)) for number in (0, 1)] == list(map(len, real_files(shared_data)))
    local = IngestConfig.model_validate({"source": f"{shared_data / 'crawl'}/web-*.warc.gz"})
    assert ingest(local, out=tmp_path / "local") == metrics
    remote, here = (list(read_documents(tmp_path / name / "documents")) for name in ("remote", "local"))
    assert [document.id for document in remote] == [document.id for document in here]
    assert {document.metadata["source_uri"] for document in remote} == {path_of(0), path_of(1)}


def test_dropped_connections_lose_no_record_and_read_none_twice(shared_data: Path, tmp_path: Path) -> None:
    contents = real_files(shared_data)
    with mirroring(contents=contents) as (_, url):
        whole = run(url, tmp_path / "whole")
    with mirroring(contents=contents, fault=Drops(after=30_000, times=9)) as (mirror, url):
        assert run(url, tmp_path / "dropped") == whole
        assert sum(mirror.sent(path_of(number)) for number in (0, 1)) == sum(map(len, contents)), (
            "no byte was sent twice"
        )
    assert outputs(tmp_path / "dropped") == outputs(tmp_path / "whole")


def test_a_kill_in_the_middle_of_a_file_goes_on_where_it_was(shared_data: Path, tmp_path: Path) -> None:
    contents = real_files(shared_data)
    with mirroring(contents=contents) as (_, url):
        run(url, tmp_path / "whole", range_bytes=20_000)
    with mirroring(contents=contents, fault=slow) as (mirror, url):
        code = "import sys; from pathlib import Path; from pipelines.corpus.ingest import *; "
        code += "ingest(IngestConfig.model_validate_json(sys.argv[1]), out=Path(sys.argv[2]))"
        config = IngestConfig(source=source(url, range_bytes=20_000))
        for count in (6, 14):
            command = [sys.executable, "-c", code, config.model_dump_json(), str(tmp_path / "killed")]
            child = subprocess.Popen(command, cwd=ROOT)
            deadline = time.monotonic() + 60
            while len(mirror.ranges) < count:
                assert time.monotonic() < deadline
                time.sleep(0.002)
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        ingest(config, out=tmp_path / "killed")
        sent = sum(mirror.sent(path_of(number)) for number in (0, 1))
    assert sent <= sum(map(len, contents)) + 2 * 20_000, "a kill costs at most the range that was under way"
    assert outputs(tmp_path / "killed") == outputs(tmp_path / "whole")


def test_a_file_that_changes_on_the_way_is_begun_anew_and_that_is_said(
    shared_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    old, new = real_files(shared_data)

    def change(mirror: Mirror, handler: Handler, path: str, start: int) -> bool:
        if start > 100_000:
            mirror.files[path_of(0)] = new
        return False

    with mirroring(contents=[old], fault=change) as (_, url):
        run(url, tmp_path / "changed")
    with mirroring(contents=[new]) as (_, url):
        run(url, tmp_path / "new")
    assert "changed on the server (ETag" in capfd.readouterr().err
    assert outputs(tmp_path / "changed") == outputs(tmp_path / "new")


def test_a_change_between_two_runs_is_found_by_the_etag(shared_data: Path, tmp_path: Path) -> None:
    old, new = real_files(shared_data)
    with mirroring(contents=[old], fault=Drops(after=50_000, times=1)) as (mirror, url):
        config = source(url, retries=0, range_bytes=1_000_000)
        path = tmp_path / "file"
        (tmp_path / "out").mkdir()
        fault, mirror.fault = (
            mirror.fault,
            lambda mirror, handler, path, start: start > 0 or fault(mirror, handler, path, start),
        )
        with pytest.raises(StageFailed, match="at byte 50,000; run again later, what is there is kept"):
            fetch_file(config, 0, path_of(0), path, tmp_path / "out")
        assert path.stat().st_size == 50_000
        mirror.files[path_of(0)], mirror.fault = new, lambda mirror, handler, path, start: False
        fetch_file(config, 0, path_of(0), path, tmp_path / "out")
    assert path.read_bytes() == new


def test_a_server_whose_etags_mean_nothing_is_given_up(shared_data: Path, tmp_path: Path) -> None:
    def change(mirror: Mirror, handler: Handler, path: str, start: int) -> bool:
        if start:
            mirror.files[path] = mirror.files[path][:-1]
        return False

    with (
        mirroring(path_of(0), contents=real_files(shared_data)[:1], fault=change) as (_, url),
        pytest.raises(StageFailed, match="begun anew 4 times"),
    ):
        run(url, tmp_path, paths=(path_of(0),))


def test_a_server_without_etags_is_read_all_the_same(shared_data: Path, tmp_path: Path) -> None:
    contents = real_files(shared_data)[:1]
    with mirroring(contents=contents, tagged=False, fault=Drops(after=70_000, times=2)) as (mirror, url):
        assert run(url, tmp_path)["kept"] == 22
        assert mirror.sent(path_of(0)) == len(contents[0])


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_a_busy_server_is_asked_again_and_in_the_end_named(shared_data: Path, tmp_path: Path, status: int) -> None:
    busy = [True] * 3

    def refuse(mirror: Mirror, handler: Handler, path: str, start: int) -> bool:
        if path.endswith(".paths.gz") or not busy:
            return False
        busy.pop()
        handler.send_response(status)
        handler.send_header("Retry-After", "0")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    with mirroring(contents=real_files(shared_data)[:1], fault=refuse) as (_, url):
        with pytest.raises(
            StageFailed, match=rf"shard 0 of 1 failed \({path_of(0)}: status {status}, 2 times in a row"
        ):
            run(url, tmp_path, retries=1)
        assert run(url, tmp_path, retries=1)["kept"] == 22


def test_one_failed_file_keeps_the_others(shared_data: Path, tmp_path: Path) -> None:
    contents = real_files(shared_data)
    with mirroring(contents=contents) as (mirror, url):
        missing = mirror.files.pop(path_of(1))
        with pytest.raises(StageFailed, match=r"shard 1 of 2 .* answers 404; check ingest.source.crawl, paths"):
            run(url, tmp_path)
        mirror.files[path_of(1)] = missing
        run(url, tmp_path)
        assert mirror.sent(path_of(0)) == len(contents[0]), "the first file was not fetched again"


def test_a_file_is_on_the_disk_only_while_it_is_read(shared_data: Path, tmp_path: Path) -> None:
    most = 0

    def count(mirror: Mirror, handler: Handler, path: str, start: int) -> bool:
        nonlocal most
        most = max(most, len(list((tmp_path / ".progress" / "download").glob("*.warc.gz"))))
        return False

    with mirroring(contents=real_files(shared_data) * 2, fault=count) as (_, url):
        assert run(url, tmp_path)["kept"] == 2 * 37
    assert most == 1


@pytest.mark.slow
def test_workers_share_the_files_and_change_no_byte(shared_data: Path, tmp_path: Path) -> None:
    with mirroring(contents=real_files(shared_data) * 2) as (_, url):
        assert run(url, tmp_path / "one") == run(url, tmp_path / "two", workers=2)
    assert outputs(tmp_path / "one") == outputs(tmp_path / "two")


def test_wet_files_give_their_texts_as_they_are(shared_data: Path, tmp_path: Path) -> None:
    wet = (shared_data / "crawl" / "commoncrawl.warc.wet.gz").read_bytes()
    with mirroring(contents=[wet], kind="wet") as (_, url):
        metrics = run(url, tmp_path, format="wet")
    (document,) = read_documents(tmp_path / "documents")
    assert document.metadata["url"] == "https://an.wikipedia.org/wiki/Escopete"
    assert document.metadata["crawl_time"] == "2024-05-18T01:58:10Z"
    assert document.text.startswith("Escopete")
    assert metrics["in"] == metrics["kept"] + metrics["dropped.warcinfo"]


def test_files_are_chosen_by_number_by_segment_and_by_path(tmp_path: Path) -> None:
    names = [path_of(number, segment=f"177000000000{number % 2}.1") for number in range(6)]
    with mirroring(*names, contents=[b"x"] * 6) as (_, url):
        assert list(chosen_files(source(url), tmp_path)) == names
        assert list(chosen_files(source(url, max_files=2), tmp_path)) == names[:2]
        assert list(chosen_files(source(url, segment="1770000000001.1", max_files=2), tmp_path)) == names[1:4:2]
        assert list(chosen_files(source("http://nowhere.invalid", paths=names[3:5]), tmp_path / "b")) == names[3:5]
        with pytest.raises(UserError, match="is none of CC-MAIN-2026-30"):
            chosen_files(source(url, segment="1.1"), tmp_path)


@pytest.mark.parametrize(
    ("listing", "told"),
    [
        (b"no gzip", "is no gzip file"),
        (gzip.compress(b"x" * 10_000)[:-20], "is cut off"),
        (gzip.compress(b"\n" * 70_000_000), "unpacks to over"),
        (gzip.compress(b"http://127.0.0.1/secret.warc.gz\n"), "is no file of the crawl"),
        (gzip.compress(f"crawl-data/{CRAWL}/segments/../../../etc/x.warc.gz".encode()), "is no file of the crawl"),
    ],
    ids=["junk", "cut", "bomb", "elsewhere", "upwards"],
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, listing: bytes, told: str) -> None:
    with mirroring(contents=[b"x"]) as (mirror, url):
        mirror.files[f"crawl-data/{CRAWL}/warc.paths.gz"] = listing
        with pytest.raises(StageFailed, match=told):
            chosen_files(source(url), tmp_path)


@pytest.mark.parametrize("headers", [{"Content-Range": "bytes 7-9/10"}, {"Content-Range": "junk"}, {}], ids=str)
def test_a_range_that_was_not_asked_for_is_not_taken(tmp_path: Path, headers: dict[str, str]) -> None:
    def wrong(mirror: Mirror, handler: Handler, path: str, start: int) -> bool:
        handler.send_response(206)
        for name, value in {"Content-Length": "3", **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(b"abc")
        return True

    with (
        mirroring(contents=[b"0123456789"], fault=wrong) as (_, url),
        pytest.raises(StageFailed, match="sent the range"),
    ):
        fetch_file(source(url, retries=1), 0, path_of(0), tmp_path / "file", tmp_path)


def test_a_file_too_large_and_a_redirect_are_refused(tmp_path: Path) -> None:
    def elsewhere(mirror: Mirror, handler: Handler, path: str, start: int) -> bool:
        handler.send_response(302)
        handler.send_header("Location", "http://127.0.0.1/secret")
        handler.end_headers()
        return True

    with mirroring(contents=[b"x" * 5_000]) as (mirror, url):
        with pytest.raises(StageFailed, match=r"has 5,000 bytes; ingest.source.max_file_bytes is 2,000"):
            fetch_file(source(url, max_file_bytes=2_000), 0, path_of(0), tmp_path / "file", tmp_path)
        mirror.fault = elsewhere
        with pytest.raises(StageFailed, match="answers 302"):
            fetch_file(source(url), 0, path_of(0), tmp_path / "other", tmp_path)


def test_a_silent_server_is_left_after_its_time(tmp_path: Path) -> None:
    def silent(mirror: Mirror, handler: Handler, path: str, start: int) -> bool:
        time.sleep(1)
        return True

    with mirroring(contents=[b"x"], fault=silent) as (_, url), pytest.raises(StageFailed, match="ReadTimeout"):
        fetch_file(source(url, timeout_seconds=0.1, retries=1), 0, path_of(0), tmp_path / "file", tmp_path)


def test_an_empty_file_is_whole_at_once(tmp_path: Path) -> None:
    with mirroring(contents=[b""]) as (_, url):
        fetch_file(source(url), 0, path_of(0), tmp_path / "file", tmp_path)
    assert (tmp_path / "file").read_bytes() == b""


def test_a_store_of_fsspec_is_read_by_ranges_too(shared_data: Path, tmp_path: Path) -> None:
    import fsspec

    contents = real_files(shared_data)[0]
    store = fsspec.filesystem("memory")
    store.pipe_file(f"/commoncrawl/{path_of(0)}", contents)
    store.pipe_file(f"/commoncrawl/crawl-data/{CRAWL}/warc.paths.gz", gzip.compress(path_of(0).encode()))
    try:
        assert run("memory://commoncrawl", tmp_path / "out")["kept"] == 22
        with pytest.raises(StageFailed, match="is not there"):
            fetch_file(source("memory://commoncrawl"), 1, path_of(1), tmp_path / "file", tmp_path)
    finally:
        store.rm("/commoncrawl", recursive=True)


def test_s3_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as where it is not installed
    for protocol in ("s3", "s3a"):  # a class that was loaded once stays known
        monkeypatch.delitem(import_module("fsspec.registry")._registry, protocol, raising=False)
    with pytest.raises(UserError, match="install s3fs"):
        chosen_files(source("s3://commoncrawl"), tmp_path)
