"""The stage host: what it builds, what it says, and what is left of it when it or its run is ended."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.artifacts.build import build
from pipelines.artifacts.errors import (
    DamagedArtifact,
    EmptyOutput,
    Killed,
    OutOfMemory,
    StageFailed,
    TemporaryFault,
    UserError,
)
from pipelines.artifacts.host import StageHost, how_it_ended
from pipelines.artifacts.job import Job, error_fields, error_of, job_line, read_job
from pipelines.artifacts.manifest import Output
from pipelines.artifacts.oom import oom_kills
from pipelines.artifacts.run import Planner
from pipelines.artifacts.store import Store
from pipelines.artifacts.work import read_progress
from pipelines.products import full
from pipelines.recipes import RECIPES
from tests.artifacts.toys import (
    COUNT,
    FLAKY,
    SLOW,
    SOURCE,
    TALK,
    CountConfig,
    FlakyConfig,
    SlowConfig,
    SourceConfig,
    TalkConfig,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's table of processes")


@pytest.fixture
def text(store: Store, tmp_path: Path) -> Output:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("grist")
    return build(store, SOURCE, SourceConfig(path=tmp_path / "texts"), {}, node="source").artifact["text"]


class Heard(list[tuple[int, str]]):
    def __call__(self, level: int, line: str) -> None:
        self.append((level, line))


def living(host: StageHost) -> set[int]:
    """The processes of a host's session and those below them."""
    assert host.child is not None
    found = {host.child.pid}
    while True:
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(stat.parent.name)] = int(fields[1])
        grown = found | {child for child, parent in parents.items() if parent in found}
        if grown == found:
            return found & set(parents)
        found = grown


def alive(numbers: set[int]) -> set[int]:
    states = {number: Path(f"/proc/{number}/stat") for number in numbers}
    return {number for number, stat in states.items() if stat.exists() and ") Z " not in stat.read_text()}


def wait_until_gone(numbers: set[int], seconds: float = 6.0) -> None:
    deadline = time.monotonic() + seconds
    while alive(numbers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(numbers)


def slow_job(store: Store, text: Output, **changes: Any) -> Job:
    return Job(store, SLOW, SlowConfig(**{"steps": 1_000, "pause_seconds": 0.02, **changes}), {"text": text}, "slow")


class Background(threading.Thread):
    """A build in another thread, so that the test can do something to it."""

    def __init__(self, host: StageHost, job: Job) -> None:
        super().__init__(daemon=True)
        self.host, self.job, self.error = host, job, None
        self.start()
        work = job.store.root / ".work" / job.stage.name
        while not any(read_progress(folder) for folder in work.glob("*[!s]")):
            assert self.is_alive()
            time.sleep(0.01)

    error: Exception | None

    def run(self) -> None:
        try:
            self.host.build(self.job)
        except StageFailed as error:
            self.error = error


def test_one_child_builds_all_stages_and_ends_with_the_block(store: Store, text: Output) -> None:
    with StageHost() as host:
        first = host.build(Job(store, COUNT, CountConfig(steps=3), {"text": text}, "count"))
        child = host.child
        assert not first.hit
        assert host.build(Job(store, COUNT, CountConfig(steps=3), {"text": text}, "count")).hit
        assert not host.build(Job(store, COUNT, CountConfig(steps=4), {"text": text}, "count.four")).hit
        assert host.child is child
        assert child is not None
    assert child.poll() is not None
    assert first.artifact["count"].path.joinpath("count.txt").read_text() == "3"
    here = build(store, COUNT, CountConfig(steps=3), {"text": text}, node="count")
    assert here.hit
    assert here.manifest == first.manifest


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_stage_of_every_recipe_is_the_same_on_the_other_side(recipe: str, store: Store) -> None:
    jobs: list[Job] = []

    class Noting(Planner):
        def __call__(self, stage: Any, config: Any, *, node: str | None = None, **inputs: Any) -> Any:
            given = {name: output for name, output in inputs.items() if output is not None}
            jobs.append(Job(self.store, stage, config, given, node or stage.name))
            return super().__call__(stage, config, node=node, **inputs)

    full(RECIPES[recipe](), Noting(store))
    for job in jobs:
        again = read_job(job_line(job))
        assert (again.stage, again.config, again.inputs, again.node) == (job.stage, job.config, job.inputs, job.node)


@pytest.mark.parametrize(
    "error",
    [
        UserError("pretrain.lr: -1"), StageFailed("pretrain: burst"), EmptyOutput("filter", {"in": 0}),
        TemporaryFault("ingest: no route"), DamagedArtifact("shard: gone"),
    ],
)  # fmt: skip
def test_an_error_keeps_its_kind_and_its_line(error: Exception) -> None:
    again = error_of(*error_fields(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


def test_a_kind_that_the_other_side_does_not_know_is_told_as_the_nearest() -> None:
    class Special(StageFailed):
        pass

    assert error_fields(Special("x")) == ["StageFailed", "x"]


def test_what_a_stage_says_is_heard_without_its_secrets(
    store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOY_TOKEN", "grist-and-chaff")
    heard = Heard()
    with StageHost(heard) as host:
        host.build(Job(store, TALK, TalkConfig(), {}, "talk"))
    said = dict.fromkeys(line for _, line in heard)
    shown = capfd.readouterr().err
    for line in (
        "toy: info of the standard log", "toy: warning of the standard log", "a printed line",
        "the last state of a bar",        "tests.artifacts.toys: a line of loguru", "token ***", "see https://***@mirror.example/x",
    ):  # fmt: skip
        assert line in said, heard
    assert any("UserWarning: a warning" in line for line in said)
    assert (logging.INFO, "toy: info of the standard log") in heard
    assert (logging.WARNING, "toy: warning of the standard log") in heard
    assert not any("debug" in line for line in said)
    assert "grist-and-chaff" not in "".join(said) + shown
    assert "a printed line" in shown
    assert "of the standard log" not in shown, "whoever hears has a log and decides what of it is shown"


def test_a_failure_does_not_tell_a_secret(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_TOKEN", "grist-and-chaff")
    with StageHost() as host, pytest.raises(StageFailed, match=r"talk: ValueError: \*\*\* is refused"):
        host.build(Job(store, TALK, TalkConfig(fails=True), {}, "talk"))


def test_progress_is_shown_here(store: Store, text: Output, capfd: pytest.CaptureFixture[str]) -> None:
    with StageHost() as host:
        host.build(slow_job(store, text, steps=230))
    assert "slow: " in capfd.readouterr().err


def test_a_fault_of_the_network_is_told_apart(store: Store) -> None:
    with StageHost() as host:
        with pytest.raises(TemporaryFault, match="flaky: ConnectionResetError"):
            host.build(Job(store, FLAKY, FlakyConfig(), {}, "flaky"))
        assert not host.build(Job(store, FLAKY, FlakyConfig(), {}, "flaky")).hit


@linux
def test_a_killed_child_is_named_and_leaves_nothing_below_it(store: Store, text: Output) -> None:
    with StageHost() as host:
        work = Background(host, slow_job(store, text))
        below = living(host)
        assert len(below) == 3, "a guard, a builder and a helper in a session of its own"
        assert host.child is not None
        (builder,) = {number for number in below if parent_of(number) == host.child.pid}
        os.kill(builder, signal.SIGKILL)
        work.join(10)
        assert type(work.error) is Killed
        assert "slow: its process was killed (SIGKILL), perhaps for lack of memory; run again" in str(work.error)
        wait_until_gone(below, 0.1)
        assert host.build(slow_job(store, text, pause_seconds=0.0)).manifest.metrics["resumed_at"] > 0


@linux
def test_a_killed_guard_takes_the_builder_with_it(store: Store, text: Output) -> None:
    with StageHost() as host:
        work = Background(host, slow_job(store, text))
        assert host.child is not None
        (builder,) = {number for number in living(host) if parent_of(number) == host.child.pid}
        os.kill(host.child.pid, signal.SIGKILL)
        work.join(10)
        assert isinstance(work.error, Killed)
        wait_until_gone({builder})


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_child_ends_with_its_run_however_that_goes(number: int, store: Store, text: Output) -> None:
    job = job_line(slow_job(store, text)).decode()
    code = (  # a shell that starts the tests in the background has them ignore SIGINT, and so what they start
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import sys; from pipelines.artifacts.host import StageHost; from pipelines.artifacts.job import read_job;"
        "StageHost().build(read_job(sys.argv[1].encode()))"
    )
    run = subprocess.Popen([sys.executable, "-c", code, job], stderr=subprocess.DEVNULL)
    host = StageHost()
    host.child = run  # type: ignore[assignment]
    while not any(read_progress(folder) for folder in (store.root / ".work" / "slow").glob("*[!s]")):
        time.sleep(0.01)
    below = living(host)
    assert len(below) == 4
    os.kill(run.pid, number)
    run.wait()
    wait_until_gone(below)


def parent_of(number: int) -> int:
    return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_kill_for_memory_is_named_with_its_remedy() -> None:
    error = how_it_ended("pretrain", -signal.SIGKILL, for_memory=True)
    assert type(error) is OutOfMemory
    assert str(error).startswith("pretrain: the kernel killed its process for lack of memory; lower its workers")
    assert "SIGTERM" in str(how_it_ended("pretrain", -signal.SIGTERM, for_memory=False))
    assert "status 3" in str(how_it_ended("pretrain", 3, for_memory=False))


def test_kills_for_memory_are_counted_by_the_control_group(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    assert oom_kills(tmp_path, own) == 0
    own.write_text("0::/user.slice/job\n")
    (tmp_path / "user.slice" / "job").mkdir(parents=True)
    (tmp_path / "user.slice" / "job" / "memory.events").write_text("low 0\noom 4\noom_kill 3\noom_group_kill 0\n")
    assert oom_kills(tmp_path, own) == 3
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    own.write_text("7:memory:/x\n")
    assert oom_kills(tmp_path, own) == 2


def test_a_job_is_one_line_of_json(store: Store, text: Output) -> None:
    line = job_line(Job(store, COUNT, CountConfig(), {"text": text}, "count"))
    assert line.count(b"\n") == 1
    assert json.loads(line)["stage"] == "count"
