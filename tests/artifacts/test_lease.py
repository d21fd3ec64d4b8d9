"""Across hosts, one writer a key: a dead one is followed, a stale one harms nothing. A host is a process whose locks
are its own and that calls itself by another name."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.artifacts.build import build
from pipelines.artifacts.collect import collect
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.lease import LEASE_SECONDS, RENEW_SECONDS, work_name
from pipelines.artifacts.store import Store, damaged_files
from tests.artifacts.toys import SOURCE, SourceConfig

ROOT = Path(__file__).resolve().parents[2]
HOST = """
import fcntl, os, platform, sys, time
from dataclasses import replace
from pathlib import Path
from pipelines.artifacts import lease
fcntl.flock = lambda handle, how: None  # the locks of this host are seen by no other
lease.host_id = platform.node = lambda: {name!r}
lease.LEASE_SECONDS, lease.RENEW_SECONDS, lease.POLL_SECONDS = {seconds}, 0.1, 0.05
from pipelines.artifacts.build import build
from pipelines.artifacts.run import LocalRun
from pipelines.artifacts.store import Store
from pipelines.artifacts.work import Progress, commit_progress, progress_dir
from tests.artifacts.toys import COUNT, SOURCE, UPPER, CountConfig, SourceConfig, UpperConfig, source, upper
store, texts, log = Store(Path({store!r})), Path({texts!r}), Path({log!r})
def note(word):
    with log.open("a") as file:
        file.write(f"{name} {{word}}\\n")
"""
SLOW = """
def slow(config: SourceConfig, *, out: Path) -> dict[str, float]:
    note("ran")
    time.sleep({sleep})
    (out / "early").mkdir(parents=True, exist_ok=True)
    (out / "early" / "a.txt").write_text("made before the nap")
    return source(config, out=out)
built = build(store, replace(SOURCE, run=slow), SourceConfig(path=texts), {{}}, node="source")
note("hit" if built.hit else "built")
"""


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("one ")
    return folder


class Hosts:
    """Starts scripts as hosts on one store."""

    def __init__(self, store: Store, texts: Path, log: Path) -> None:
        self.store, self.texts, self.log = store, texts, log
        self.running: list[subprocess.Popen[str]] = []

    def start(self, name: str, script: str, *, seconds: float = 1.0) -> subprocess.Popen[str]:
        head = HOST.format(
            name=name, seconds=seconds, store=str(self.store.root), texts=str(self.texts), log=str(self.log)
        )
        process = subprocess.Popen(
            [sys.executable, "-c", head + script], cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ}
        )
        self.running.append(process)
        return process

    def said(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def until(self, line: str) -> None:
        deadline = time.monotonic() + 60
        while line not in self.said():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)


@pytest.fixture
def hosts(store: Store, texts: Path, tmp_path: Path) -> Iterator[Hosts]:
    found = Hosts(store, texts, tmp_path / "log")
    yield found
    for process in found.running:
        if process.stderr and not process.stderr.closed:
            process.kill()
            process.communicate()


def ended(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return errors


def all_sound(store: Store) -> list[str]:
    """Return the stages of what is published, every file of which is what its manifest says."""
    found = list(store.manifests())
    assert [damaged_files(store.folder(item.stage, item.key), item) for item in found] == [[]] * len(found)
    return [item.stage for item in found]


def test_two_workers_on_one_store_compute_each_key_once(hosts: Hosts) -> None:
    script = """
def logged(stage, run):
    def told(config, **paths):
        note(stage.name)
        time.sleep(0.3)
        return run(config, **paths)
    told.__annotations__ = run.__annotations__ | {"config": stage.config}
    return replace(stage, run=told)
for mark in "abc":
    run = LocalRun(store)
    found = run(logged(SOURCE, source), SourceConfig(path=texts))
    run(logged(UPPER, upper), UpperConfig(mark=mark), text=found["text"])
"""
    both = [hosts.start(name, script) for name in ("first", "second")]
    told = "".join(ended(process) for process in both)
    assert sorted(line.split()[1] for line in hosts.said()) == ["source", "upper", "upper", "upper"]
    assert sorted(all_sound(hosts.store)) == ["source", "upper", "upper", "upper"]
    assert "another run is building" in told and "(on host " in told


def test_a_record_is_made_by_one_of_many_hosts_at_a_time(hosts: Hosts, tmp_path: Path) -> None:
    script = f"""
count = Path({str(tmp_path / "count")!r})
for _ in range(12):
    with store.lock("toy", "k"):
        found = int(count.read_text() or 0) if count.exists() else 0
        time.sleep(0.005)
        count.write_text(str(found + 1))
"""
    for process in [hosts.start(f"host{index}", script, seconds=30) for index in range(4)]:
        ended(process)
    assert (tmp_path / "count").read_text() == "48"


def test_a_builder_that_lives_keeps_its_key_for_many_leases(hosts: Hosts) -> None:
    first = hosts.start("first", SLOW.format(sleep=4))
    hosts.until("first ran")
    second = hosts.start("second", SLOW.format(sleep=0))
    ended(first), ended(second)
    assert hosts.said() == ["first ran", "first built", "second hit"]


def test_a_dead_host_is_followed_after_its_lease_and_its_progress_goes_on(hosts: Hosts) -> None:
    script = """
text = build(store, SOURCE, SourceConfig(path=texts), {{}}, node="source").artifact["text"]
def dies(config: CountConfig, *, text: Path, out: Path) -> dict[str, float]:
    (progress_dir(out) / "done").write_text("xxx")
    commit_progress(out, Progress(3, 5, "steps"))
    note("at 3")
    time.sleep(60)
built = build(store, {stage}, CountConfig(), {{"text": text}}, node="count")
note(f"resumed at {{built.manifest.metrics['resumed_at']:.0f}}")
"""
    victim = hosts.start("first", script.format(stage="replace(COUNT, run=dies)"))
    hosts.until("first at 3")
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    started = time.monotonic()
    told = ended(hosts.start("second", script.format(stage="COUNT")))
    assert time.monotonic() - started > 1.0  # the length of the lease in this test
    assert "host first was silent" in told and "taken over" in told
    assert hosts.said()[-1] == "second resumed at 3"
    assert sorted(all_sound(hosts.store)) == ["count", "source"]
    assert not [path for path in (hosts.store.root / ".work" / "count").iterdir() if path.is_dir()]


def test_a_stale_writer_that_wakes_up_uses_what_was_published_and_harms_nothing(hosts: Hosts) -> None:
    stale = hosts.start("first", SLOW.format(sleep=0.5))
    hosts.until("first ran")
    stale.send_signal(signal.SIGSTOP)
    ended(hosts.start("second", SLOW.format(sleep=0)))
    before = [path.read_bytes() for path in sorted(hosts.store.root.glob("source/*/*/*"))]
    stale.send_signal(signal.SIGCONT)
    told = ended(stale)
    assert "another took" in told and "Traceback" not in told
    assert hosts.said() == ["first ran", "second ran", "second built", "first hit"]
    assert all_sound(hosts.store) == ["source"]
    assert [path.read_bytes() for path in sorted(hosts.store.root.glob("source/*/*/*"))] == before


def test_a_writer_that_stops_right_before_its_rename_replaces_nothing(hosts: Hosts) -> None:
    pause = """
original = Path.rename
def paused(self, target):
    if ".work" in str(self):
        note("renames")
        os.kill(os.getpid(), 19)
    return original(self, target)
Path.rename = paused
"""
    stale = hosts.start("first", pause + SLOW.format(sleep=0))
    hosts.until("first renames")
    ended(hosts.start("second", SLOW.format(sleep=0)))
    stale.send_signal(signal.SIGCONT)
    ended(stale)
    assert hosts.said()[-2:] == ["second built", "first hit"]
    assert all_sound(hosts.store) == ["source"]


def test_a_rename_onto_what_another_host_published_gives_way(store: Store, texts: Path) -> None:
    built = build(store, SOURCE, SourceConfig(path=texts), {}, node="source")
    late = store.work("source", built.manifest.key)
    (late / "text").mkdir(parents=True)
    (late / "text" / "all.txt").write_text("ONE ")
    files = {"text/all.txt": built.manifest.files["text/all.txt"]}
    changed = built.manifest.model_copy(update={"files": files, "host": "late"})
    assert store.publish(changed, late) == built.manifest
    assert not late.exists() and damaged_files(built.artifact.path, built.manifest) == []


def test_a_killed_build_is_followed_at_once_on_the_same_host_in_the_same_directory(store: Store, texts: Path) -> None:
    with store.lock("source", "k") as lease:
        work = lease.work(store.root / ".work" / "source", resumable=True)
        lease.release = lambda: None  # type: ignore[method-assign]  # as a kill leaves it
    started = time.monotonic()
    with store.lock("source", "k") as following:
        assert following.work(work.parent, resumable=True) == work
        assert following.held() and not lease.held()
    assert time.monotonic() - started < 1 and work.name == "k"


def test_gc_leaves_what_another_host_builds(hosts: Hosts) -> None:
    process = hosts.start("first", SLOW.format(sleep=30))
    hosts.until("first ran")
    assert collect(hosts.store, 1) == []
    left = hosts.store.root / ".work" / "source" / f"{next((hosts.store.root / '.leases' / 'source').iterdir()).name}.7"
    left.mkdir()
    assert collect(hosts.store, 1) == []
    process.kill()


def test_a_holder_that_died_while_it_wrote_its_record_is_followed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.artifacts.lease.LEASE_SECONDS", 0.2)
    folder = store.leases("source", "k")
    folder.mkdir(parents=True)
    (folder / "1").write_text('{"id": "cut')
    with store.lock("source", "k") as lease:
        assert lease.held() and work_name(folder) == "k"


def test_a_full_disk_at_the_release_hides_no_other_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UserError, match="the stage's own"), store.lock("source", "k"):
        monkeypatch.setattr(Path, "write_text", full)
        raise UserError("the stage's own")
    monkeypatch.undo()
    with store.lock("source", "k") as lease:
        assert lease.held()


def test_a_file_system_without_locks_is_one_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(UserError, match=r"locks no files.*choose another"), store.lock("source", "k"):
        pass


def test_a_lease_outlasts_some_signs_of_life_that_are_lost() -> None:
    assert LEASE_SECONDS >= 5 * RENEW_SECONDS


@pytest.mark.slow
def test_two_workers_run_real_stages_and_compute_each_key_once(hosts: Hosts) -> None:
    script = """
from pipelines.products import PRODUCTS, part_of
from pipelines.recipes import smoke
product = PRODUCTS["dedup-only"]
run = LocalRun(store, only={"examples", "ingest"})
product.wire(part_of(product.config, smoke()), run)
for result in run.results:
    note(f"{'hit' if result.hit else 'built'} {result.node}")
"""
    both = [hosts.start(name, script, seconds=20) for name in ("first", "second")]
    for process in both:
        process.communicate(timeout=180)
    assert [process.returncode for process in both] == [0, 0]
    told = sorted(line.split(" ", 1)[1] for line in hosts.said())
    assert told == ["built examples", "built ingest", "hit examples", "hit ingest"]
    assert sorted(all_sound(hosts.store)) == ["examples", "ingest"]
