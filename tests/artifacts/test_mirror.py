"""A mirror spares the build, never harms it: on a folder, in memory, on a loopback S3 and behind a web server."""

import http.server
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from deployments.cli import app
from pipelines.artifacts import mirror as mirror_module
from pipelines.artifacts.build import Built, build
from pipelines.artifacts.collect import collect
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.host import StageHost
from pipelines.artifacts.job import Job
from pipelines.artifacts.mirror import Mirror, is_plain, one_line
from pipelines.artifacts.mirror_uri import mirror_at
from pipelines.artifacts.run import LocalRun, Planner, record_run
from pipelines.artifacts.stage import Stage
from pipelines.artifacts.store import Store, damaged_files
from tests.artifacts.toys import COUNT, SOURCE, UPPER, CountConfig, SourceConfig, UpperConfig, source

ROOT = Path(__file__).resolve().parents[2]
SERVE_S3 = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
server._thread.join()
"""


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("one ")
    return folder


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an S3 server of this machine."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE_S3], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdout is not None
    yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    server.kill()
    server.communicate()


@pytest.fixture(params=["file", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty mirror."""
    if request.param == "file":
        return f"file://{tmp_path}/mirror"
    if request.param == "memory":
        return f"memory://{tmp_path.name}"
    address = request.getfixturevalue("s3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-access-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-access-key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    bucket = re.sub(r"[^a-z0-9]", "-", tmp_path.name.lower())[:60].strip("-")
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(bucket)
    return f"s3://{bucket}/gristmill"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A mirror's folder on disk."""
    return tmp_path / "mirror"


@pytest.fixture
def hosts(tmp_path: Path) -> Callable[[str, str | Path], Store]:
    """Make stores of hosts that share nothing but a mirror."""

    def host(name: str, uri: str | Path) -> Store:
        store = Store(tmp_path / name, mirror_at(str(uri), tmp_path / name))
        store.prepare()
        return store

    return host


def never(config: SourceConfig, *, out: Path) -> dict[str, float]:
    raise AssertionError("built although the mirror has it")


NEVER = replace(SOURCE, run=never)


def built(store: Store, texts: Path, stage: Stage = SOURCE, **settings: int) -> Built:
    return build(store, stage, SourceConfig(path=texts, **settings), {}, node="source")


Hosts = Callable[[str, str | Path], Store]


def test_what_one_host_built_another_fetches(
    hosts: Hosts, place: str, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = built(hosts("one", place), texts)
    second = built(hosts("two", place), texts, NEVER)
    assert not first.hit and second.hit
    assert second.manifest == first.manifest and "log/workers.txt" in second.manifest.files
    assert damaged_files(second.artifact.path, second.manifest) == []
    assert re.search(r"source: from the mirror, 0\.0 MiB in \d", capsys.readouterr().err)
    assert not list((second.artifact.path.parents[1] / ".work" / "source").glob("*.pull.*"))


def test_a_chain_is_fetched_node_by_node_and_a_plan_says_so(hosts: Hosts, place: str, texts: Path) -> None:
    def walk(run: LocalRun | Planner) -> None:
        found = run(SOURCE, SourceConfig(path=texts))
        loud = run(UPPER, UpperConfig(), text=found["text"])
        run(COUNT, CountConfig(), text=loud["text"])

    walk(LocalRun(hosts("one", place)))
    two = hosts("two", place)
    planner = Planner(two)
    walk(planner)
    assert [(row.state, row.why) for row in planner.rows] == [("miss", "in the mirror")] * 3
    assert list(two.manifests()) == []
    run = LocalRun(two)
    walk(run)
    assert [result.hit for result in run.results] == [True] * 3


def test_the_stage_host_of_a_run_asks_the_mirror_too(hosts: Hosts, folder: Path, texts: Path) -> None:
    first = built(hosts("one", folder), texts)
    with StageHost() as host:
        second = host.build(Job(hosts("two", folder), SOURCE, SourceConfig(path=texts), {}, "source"))
    assert second.hit and second.manifest == first.manifest


def blob_of(folder: Path, built: Built, name: str) -> Path:
    sha256 = built.manifest.files[name].sha256
    return folder / "blobs" / sha256[:2] / sha256


def manifest_of(folder: Path, built: Built) -> Path:
    return folder / "manifests" / "source" / f"{built.manifest.key}.json"


@pytest.mark.parametrize("name", ["text/all.txt", "log/workers.txt"])
@pytest.mark.parametrize("fault", ["flipped", "cut", "longer", "missing"])
def test_a_damaged_file_makes_a_miss_and_is_replaced(
    hosts: Hosts, folder: Path, texts: Path, name: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    blob = blob_of(folder, built(hosts("one", folder), texts), name)
    good = blob.read_bytes()
    if fault == "missing":
        blob.unlink()
    else:
        blob.write_bytes({"flipped": b"\0" + good[1:], "cut": good[:-1], "longer": good + b"x" * 10_000_000}[fault])
    assert not built(hosts("two", folder), texts).hit
    lines = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert len(lines) == 1 and name in lines[0] and "built here and sent anew" in lines[0]
    assert blob.read_bytes() == good
    assert built(hosts("three", folder), texts, NEVER).hit


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"x" * (1 << 20)])
def test_a_cut_manifest_is_a_miss_and_is_replaced(hosts: Hosts, folder: Path, texts: Path, content: bytes) -> None:
    path = manifest_of(folder, built(hosts("one", folder), texts))
    path.write_bytes(content)
    assert not built(hosts("two", folder), texts).hit
    assert built(hosts("three", folder), texts, NEVER).hit


def test_a_manifest_without_end_is_a_miss(
    hosts: Hosts, folder: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(hosts("one", folder), texts)
    monkeypatch.setattr(mirror_module, "MAX_MANIFEST_BYTES", 100)
    assert not built(hosts("two", folder), texts).hit


def test_the_manifest_of_another_key_is_a_miss(hosts: Hosts, folder: Path, texts: Path) -> None:
    one = hosts("one", folder)
    first, other = built(one, texts), built(one, texts, repeat=2)
    manifest_of(folder, first).write_bytes(manifest_of(folder, other).read_bytes())
    assert not built(hosts("two", folder), texts).hit


def test_a_half_sent_artifact_is_a_miss_and_the_next_sending_goes_on(
    hosts: Hosts, folder: Path, texts: Path, tmp_path: Path
) -> None:
    script = f"""
import os, signal
from pathlib import Path
from pipelines.artifacts import transfer
from pipelines.artifacts.build import build
from pipelines.artifacts.mirror import Mirror
from pipelines.artifacts.store import Store
from tests.artifacts.toys import SOURCE, SourceConfig
original, sent = Mirror._writing, []
def dies(self, path, size):
    sent.append(path)
    if len(sent) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, path, size)
Mirror._writing, transfer.THREADS = dies, 1
store = Store(Path({str(tmp_path / "one")!r}), Mirror("file://{folder}"))
store.prepare()
build(store, SOURCE, SourceConfig(path=Path({str(texts)!r})), {{}}, node="source")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    sent = {path: path.stat().st_mtime_ns for path in (folder / "blobs").glob("*/*")}
    assert len(sent) == 1 and not (folder / "manifests").exists()
    assert not built(hosts("two", folder), texts).hit
    assert built(hosts("three", folder), texts, NEVER).hit
    assert {path: path.stat().st_mtime_ns for path in sent} == sent


NAMES = ["/etc/passwd", "../../escaped", "text/../../../escaped", "text//a", "text/./a", "text", ".progress/a", "", "/"]


@pytest.mark.parametrize("name", [*NAMES, "text\\..\\a", "text/a\nb", "text/\0", "text/" + "a" * 2000, "text/ "])
def test_a_name_that_leads_out_of_its_folder_is_refused(
    hosts: Hosts, folder: Path, texts: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.artifacts.store import output_digests

    assert not is_plain(name)
    first = built(hosts("one", folder), texts)
    files = {**first.manifest.files, name: first.manifest.files["text/all.txt"]}
    forged = first.manifest.model_copy(update={"files": files, "outputs": output_digests(files)})
    manifest_of(folder, first).write_text(forged.model_dump_json())
    assert not built(hosts("two", folder), texts).hit
    assert "its manifest names" in capsys.readouterr().err
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize(("field", "value"), [("bytes", -1), ("sha256", "../../../secret"), ("sha256", "A" * 64)])
def test_a_size_or_digest_that_is_none_is_refused(
    hosts: Hosts, folder: Path, texts: Path, field: str, value: object
) -> None:
    from pipelines.artifacts.store import output_digests

    first = built(hosts("one", folder), texts)
    entry = first.manifest.files["text/all.txt"].model_copy(update={field: value})
    files = {**first.manifest.files, "text/all.txt": entry}
    forged = first.manifest.model_copy(update={"files": files, "outputs": output_digests(files)})
    manifest_of(folder, first).write_text(forged.model_dump_json())
    assert not built(hosts("two", folder), texts).hit


def test_what_does_not_fit_the_disk_is_not_fetched(
    hosts: Hosts, folder: Path, texts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    built(hosts("one", folder), texts)
    two = hosts("two", folder)
    monkeypatch.setattr(mirror_module, "SPARE_BYTES", 1 << 62)
    assert not built(two, texts).hit
    assert "do not fit" in capsys.readouterr().err


@pytest.fixture
def deaf() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/mirror"


def test_a_mirror_that_never_answers_is_one_line_and_the_run_goes_on(
    hosts: Hosts, deaf: str, texts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_module, "ANSWER_SECONDS", 0.5)
    store = hosts("one", deaf)
    started = time.monotonic()
    found = built(store, texts).artifact["text"]
    build(store, UPPER, UpperConfig(), {"text": found}, node="upper")
    assert time.monotonic() - started < 20
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "TimeoutError: no answer" in lines[0] and "goes on without it" in lines[0]


def test_a_mirror_that_is_down_is_one_line_and_is_asked_again_later(
    hosts: Hosts, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store = hosts("one", f"http://127.0.0.1:{port}")
    assert not built(store, texts).hit and not built(store, texts, repeat=2).hit
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert store.mirror is not None
    store.mirror.asleep_until = 0
    assert not built(store, texts, repeat=3).hit
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_sending_that_fails_is_told_and_leaves_the_artifact_in_the_store(
    hosts: Hosts, folder: Path, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir()
    (folder / "blobs").write_text("in the way")
    store = hosts("one", folder)
    done = built(store, texts)
    assert not done.hit and store.find("source", done.manifest.key)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "cannot be sent" in lines[0] and "goes on without it" in lines[0]


def test_a_mirror_behind_a_web_server_is_read_and_takes_nothing(
    hosts: Hosts, folder: Path, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(hosts("one", folder), texts)

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given: object, **named: object) -> None:
            super().__init__(*given, directory=str(folder), **named)  # type: ignore[arg-type,misc]

        def log_message(self, *given: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        two = hosts("two", f"http://127.0.0.1:{server.server_port}")
        assert built(two, texts, NEVER).hit
        assert not built(two, texts, repeat=2).hit and not built(two, texts, repeat=3).hit
        server.shutdown()
    assert capsys.readouterr().err.count("takes no files; it is only read") == 1


def test_equal_files_are_sent_once_and_fetched_once(hosts: Hosts, folder: Path, texts: Path) -> None:
    def twice(config: SourceConfig, *, out: Path) -> dict[str, float]:
        for name in ("a", "b"):
            (out / name).mkdir()
            (out / name / "same.txt").write_text("the same")
        return source(config, out=out)

    first = built(hosts("one", folder), texts, replace(SOURCE, run=twice))
    assert len(list((folder / "blobs").glob("*/*"))) == len(first.manifest.files) - 1
    second = built(hosts("two", folder), texts, NEVER)
    assert damaged_files(second.artifact.path, second.manifest) == []


def test_two_hosts_that_send_one_key_at_once_leave_a_whole_artifact(
    hosts: Hosts, folder: Path, texts: Path, tmp_path: Path
) -> None:
    done = [built(Store(tmp_path / name), texts, workers=index) for index, name in enumerate(("one", "two"))]
    assert done[0].manifest.key == done[1].manifest.key and done[0].manifest.files != done[1].manifest.files
    threads = [
        threading.Thread(target=Mirror(f"file://{folder}").push, args=(item.artifact.path, item.manifest, "source"))
        for item in done
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built(hosts("three", folder), texts, NEVER).hit


def test_a_damaged_folder_of_the_store_is_fetched_anew(hosts: Hosts, folder: Path, texts: Path) -> None:
    store = hosts("one", folder)
    first = built(store, texts)
    (first.artifact.path / "text" / "all.txt").unlink()
    second = built(store, texts, NEVER)
    assert second.hit and damaged_files(second.artifact.path, second.manifest) == []


def test_gc_keeps_what_was_fetched_since_the_newest_run(hosts: Hosts, folder: Path, texts: Path) -> None:
    built(hosts("one", folder), texts)
    run = LocalRun(hosts("two", folder))
    run(SOURCE, SourceConfig(path=texts, repeat=2))
    record_run(run.store, "toy", run.results)
    time.sleep(0.02)
    fetched = built(run.store, texts, NEVER)
    assert collect(run.store, keep_runs=1) == []
    assert run.store.find("source", fetched.manifest.key)


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://user:hunter2secret@host/x",
        "https://host/x?sig=hunter2secret",
        "s3://key:hunter2secret@bucket/x",
        "https://host/x?a=1&X-Amz-Signature=hunter2secret",
    ],
)
def test_a_secret_in_the_uri_is_refused_without_being_shown(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds a secret") as caught:
        mirror_at(uri, tmp_path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("uri", ["nothing://x", "http://[x", "simplecache::s3://x/y", "STORE", "STORE/inner"])
def test_a_place_that_can_be_no_mirror_is_one_line(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^mirror: [^\n]*$"):
        mirror_at(uri.replace("STORE", str(tmp_path)), tmp_path)
    assert mirror_at("", tmp_path) is None and mirror_at(None, tmp_path) is None


def test_errors_are_told_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
    shown = one_line(OSError("no https://me:pw@host/x?sig=abc with hunter2hunter2\nmore"))
    assert shown == "OSError: no https://***@host/x?*** with ***"


def test_large_files_take_little_memory_and_show_progress(tmp_path: Path) -> None:
    script = f"""
import hashlib, resource, sys
from pathlib import Path
from pipelines.artifacts import progress, transfer
progress.QUIET_SECONDS = progress.LINE_SECONDS = 0.05
from pipelines.artifacts.build import build
from pipelines.artifacts.mirror import Mirror
from pipelines.artifacts.store import Store
from tests.artifacts.toys import UPPER, UpperConfig
from dataclasses import replace
def large(config: UpperConfig, *, out: Path) -> dict[str, float]:
    for name in "abcd":
        (out / name).mkdir()
        with (out / name / "f.bin").open("wb") as file:
            for index in range(40):
                file.write((name + str(index)).encode() * 400_000)
    return {{}}
import fsspec
used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
for name in ("one", "two"):
    store = Store(Path({str(tmp_path)!r}) / name, Mirror("file://{tmp_path}/mirror"))
    store.prepare()
    before = used()
    built = build(store, replace(UPPER, run=large), UpperConfig(), {{}}, node="upper")
    print(built.hit, built.manifest.bytes >> 20, used() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["False", "True"], done.stderr
    assert all(int(size) > 150 and int(used) < 64 for _, size, used in rows), rows
    assert re.search(r"upper: to the mirror: [\d,]+/[\d,]+ MiB \(\d+%\), .* left", done.stderr), done.stderr
    assert re.search(r"upper: from the mirror: [\d,]+/[\d,]+ MiB", done.stderr), done.stderr


def test_the_command_line_sends_and_fetches(tmp_path: Path, texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, folder = Store(tmp_path / "one"), tmp_path / "mirror"
    store.prepare()
    keys = [built(store, texts, repeat=repeat).manifest.key for repeat in (1, 2)]

    def gristmill(*words: str) -> dict[str, int]:
        capsys.readouterr()
        app(["artifacts", *words, "--mirror", str(folder), "--json"], result_action="return_value")
        found: dict[str, int] = json.loads(capsys.readouterr().out)
        return found

    assert gristmill("push", "--store", str(store.root)) == {"sent": 2, "there": 0, "failed": 0}
    assert gristmill("push", "--store", str(store.root)) == {"sent": 0, "there": 2, "failed": 0}
    two = Store(tmp_path / "two")
    assert gristmill("pull", keys[0][:10], "--store", str(two.root)) == {"fetched": 1, "there": 0, "failed": 0}
    assert gristmill("pull", "--store", str(two.root)) == {"fetched": 1, "there": 1, "failed": 0}
    assert sorted(item.key for item in two.manifests()) == sorted(keys)
    with pytest.raises(UserError, match="none is given"):
        app(["artifacts", "push", "--store", str(store.root)], result_action="return_value", exit_on_error=False)
