"""Runs that are ended in the midst of a stage, on a real server: nothing is left, and the next run goes on.

Every test prints how long it took until nothing was left. Bounds: six seconds for processes and devices, two minutes
for a run to be shown as ended.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deployments.prefect_settings import WATCHED_TAG
from flows.product import SEQUENTIAL, TASK_RUNNER
from pipelines.artifacts.build import Built, build
from pipelines.artifacts.run import LocalRun
from pipelines.artifacts.store import Store, damage
from pipelines.artifacts.work import read_progress
from tasks.places import GPU_LIMIT
from tests.artifacts.toys import SLOW, SOURCE, SlowConfig, SourceConfig
from tests.flows.served import CODE, Served, free_port, processes, served, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # Prefect's own shutdown is not warning-free
    pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's table of processes"),
]
GONE_SECONDS, SHOWN_SECONDS = 6.0, 120.0
LIMIT_SECONDS = 12
"""Of a run that is timed out: enough for its first steps."""
STEPS = 200
DEVICE = "toy:0"
TAKEN = f"\nslow: all places in Prefect's limit {GPU_LIMIT!r} are taken"


class Bench:
    """The server, the store that its runner fills, and what a run in it must come to."""

    def __init__(self, prefect: Served, home: Path) -> None:
        self.prefect, self.store = prefect, Store(home / "store")
        self.store.prepare()
        self.texts = home / "texts"
        self.texts.mkdir()
        (self.texts / "a.txt").write_text("grist")
        self.besides: list[int] = []
        """Processes that belong to no run."""

    def parameters(self, salt: str, **changes: Any) -> dict[str, Any]:
        slow = {"salt": salt, "steps": STEPS, "pause_seconds": 0.05, "device": DEVICE, **changes}
        return {"config": {"source": {"path": str(self.texts)}, "slow": slow}}

    def begin(self, salt: str, **changes: Any) -> UUID:
        """Start a run through the runner and return it once its long stage has committed something."""
        run = self.prefect.submit(self.parameters(salt, **changes))
        wait_for(lambda: self.steps() > 2, 60, "the first steps")
        return run

    def steps(self) -> int:
        return max(self.begun(), default=0)

    def begun(self) -> list[int]:
        """Return how far each stage that is not finished has come, of those that have committed something."""
        found = [read_progress(work) for work in (self.store.root / ".work" / "slow").glob("*[!s]")]
        return [progress.done for progress in found if progress]

    def below(self) -> dict[int, str]:
        """All processes of runs, without the runner itself."""
        return processes(self.store.root, self.prefect.runner.pid if self.prefect.runner else 0, *self.besides)

    def gone(self, since: float, what: str) -> None:
        """See that nothing of a run is left in time, and say after how long."""
        wait_for(
            lambda: not self.below(), GONE_SECONDS - (time.monotonic() - since), f"{what}: the end of {self.below()}"
        )
        print(f"{what}: nothing left after {time.monotonic() - since:.1f} s")
        slot = self.prefect.home / "slots" / f"{DEVICE.replace(':', '-')}.lock"
        with slot.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def places(self) -> int:
        """Return how many places of Prefect's limit are taken."""
        limit = self.prefect.request(lambda client: client.read_global_concurrency_limit_by_name(GPU_LIMIT))
        return int(limit.active_slots)

    def goes_on(self, salt: str) -> None:
        """See that the store is sound, that the next run goes on after the last commit, and that it ends as it must."""
        assert not [damage(folder) for folder in self.store.folders() if damage(folder)]
        done = self.steps()
        built = self.build(salt)
        assert not built.hit
        assert built.manifest.metrics["resumed_at"] == done > 0
        self.ends_as_it_must(built, salt)

    def build(self, salt: str) -> Built:
        run = LocalRun(self.store)
        source = run(SOURCE, SourceConfig(path=self.texts))
        return build(self.store, SLOW, SlowConfig(salt=salt, steps=STEPS), {"text": source["text"]}, node="slow")

    def ends_as_it_must(self, built: Built, salt: str) -> None:
        value = f"{salt}grist"
        for _ in range(STEPS):
            value = hashlib.sha256(value.encode()).hexdigest()
        assert (built.artifact["count"].path / "hash.txt").read_text() == value
        assert not [damage(folder) for folder in self.store.folders() if damage(folder)]

    def ended(self, run: UUID, name: str, since: float) -> None:
        """See that the run ended in that state in time; tests that came in between do not count."""
        state = self.prefect.ended(run, max(SHOWN_SECONDS - (time.monotonic() - since), 1))
        seconds = state.timestamp.timestamp() - time.time() + time.monotonic() - since
        print(f"shown as {state.name} after {seconds:.1f} s: {state.message}")
        assert state.name == name, state.message
        assert seconds < SHOWN_SECONDS

    def script(self, parameters: dict[str, Any], options: str = "", on: str = SEQUENTIAL) -> subprocess.Popen[bytes]:
        """Start the flow in a process of its own, without a runner."""
        flow = "toy" if on == SEQUENTIAL else "side_by_side"
        code = (
            f"import json, sys; from prefect import tags; from tests.flows.toy_flow import {flow} as flow\n"
            f"with tags({WATCHED_TAG!r}): flow{options}(json.loads(sys.argv[1]), return_state=True)"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(parameters["config"])],
            env=self.prefect.environment(self.store.root) | {TASK_RUNNER: on}, cwd=CODE,
            stdout=self.prefect.log, stderr=self.prefect.log,
        )  # fmt: skip


@pytest.fixture(scope="module")
def bench(prefect_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    home = shutil.copytree(prefect_home, tmp_path_factory.mktemp("faults") / "home")
    with served(home) as prefect:
        one = Bench(prefect, home)
        try:
            prefect.start_runner(one.store.root)
            yield one
        finally:
            for process in one.below():  # of a test that failed
                os.kill(process, signal.SIGKILL)


@pytest.fixture(scope="module")
def orphaned(bench: Bench) -> tuple[UUID, float]:
    """A run whose process, which no runner watches, was killed at the start of these tests."""
    process = bench.script(bench.parameters("orphaned"))
    wait_for(lambda: bench.steps() > 2, 60, "the first steps")
    process.kill()
    since = time.monotonic()
    process.wait()
    bench.gone(since, "kill -9 of a flow's process without a runner")
    bench.goes_on("orphaned")
    runs = bench.prefect.request(lambda client: client.read_flow_runs())
    return next(run.id for run in runs if run.deployment_id is None), since


def test_a_cancelled_run_saves_ends_and_goes_on(bench: Bench, orphaned: object) -> None:
    run = bench.begin("cancelled", save_seconds=1.0)
    since = time.monotonic()
    bench.prefect.cancel(run)
    bench.gone(since, "cancel")
    bench.ended(run, "Cancelled", since)
    bench.goes_on("cancelled")


def test_a_stage_that_does_not_stop_in_time_is_killed(bench: Bench) -> None:
    run = bench.begin("stubborn", save_seconds=60.0)
    since = time.monotonic()
    bench.prefect.cancel(run)
    bench.gone(since, "cancel of a stage that takes too long to stop")
    bench.ended(run, "Cancelled", since)
    bench.goes_on("stubborn")


def test_kill_9_of_the_flow_process_leaves_nothing(bench: Bench) -> None:
    run = bench.begin("killed")
    flow = next(number for number, command in bench.below().items() if "prefect" in command)
    since = time.monotonic()
    os.kill(flow, signal.SIGKILL)
    bench.gone(since, "kill -9 of the flow's process")
    bench.ended(run, "Crashed", since)
    bench.goes_on("killed")


def test_kill_9_of_the_runner_ends_its_runs(bench: Bench) -> None:
    run = bench.begin("lost")
    since = time.monotonic()
    bench.prefect.kill_runner()
    bench.gone(since, "kill -9 of the runner")
    bench.prefect.start_runner(bench.store.root)
    bench.ended(run, "Crashed", since)
    bench.goes_on("lost")


def test_a_run_outlives_kill_9_of_the_server(bench: Bench) -> None:
    run = bench.begin("unserved", pause_seconds=0.03)
    bench.prefect.kill_server()
    before, since = bench.steps(), time.monotonic()
    time.sleep(1)
    assert bench.steps() > before, "the stage goes on without a server"
    bench.prefect.start_server()
    print(f"the server is back after {time.monotonic() - since:.1f} s")
    bench.ended(run, "Completed", since)
    built = bench.build("unserved")
    assert built.hit
    bench.ends_as_it_must(built, "unserved")
    assert bench.places() == 0, "the server remembers who held the place"


def test_a_time_limit_ends_the_stage(bench: Bench) -> None:
    process = bench.script(
        bench.parameters("late", pause_seconds=0.5), f".with_options(timeout_seconds={LIMIT_SECONDS})"
    )
    wait_for(lambda: bench.steps() > 2, 60, "the first steps")
    wait_for(lambda: process.poll() is not None, LIMIT_SECONDS + GONE_SECONDS, "the end of the time")
    assert not bench.below()
    runs = bench.prefect.request(lambda client: client.read_flow_runs())
    assert "TimedOut" in {run.state_name for run in runs}
    bench.goes_on("late")


def test_a_dead_holder_s_place_is_free_at_once_and_who_waits_for_it_can_be_stopped(bench: Bench) -> None:
    """The limit `gpu` of the server is 1, and Prefect alone would free a killed holder's place after a minute."""
    holder = bench.script(bench.parameters("holder", pause_seconds=0.5))
    wait_for(bench.begun, 60, "the first steps")
    before = bench.prefect.told(TAKEN)
    late = bench.script(bench.parameters("late for it"), f".with_options(timeout_seconds={LIMIT_SECONDS})")
    stopped = bench.script(bench.parameters("stopped"))
    wait_for(lambda: bench.prefect.told(TAKEN) == before + 2, 60, "two that wait for the place")
    since = time.monotonic()
    stopped.terminate()
    wait_for(lambda: stopped.poll() is not None, GONE_SECONDS, "the end of a stopped run that waits")
    print(f"SIGTERM to a run that waits for a place: gone after {time.monotonic() - since:.1f} s")
    following = bench.script(bench.parameters("following", pause_seconds=0.001))
    wait_for(lambda: late.poll() is not None, LIMIT_SECONDS + GONE_SECONDS, "the end of the time of a run that waits")
    print(
        f"a time limit of {LIMIT_SECONDS} s: a run that waits is gone {time.monotonic() - since:.1f} s after it said so"
    )
    wait_for(lambda: bench.prefect.told(TAKEN) == before + 3, 60, "a third one that waits")
    assert holder.poll() is None and bench.places() == 1
    since = time.monotonic()
    holder.kill()
    wait_for(lambda: len(bench.begun()) == 2, GONE_SECONDS, "the stage of the run that waits")
    print(f"kill -9 of the holder: the next run's stage has begun after {time.monotonic() - since:.1f} s")
    assert holder.wait() == -signal.SIGKILL and following.wait(60) == 0
    assert bench.places() == 0
    bench.goes_on("holder")


@pytest.fixture(scope="module")
def cluster(bench: Bench) -> Iterator[str]:
    """A Dask cluster as other hosts would form one: a scheduler and a worker, each a process; yields its address."""
    pytest.importorskip("prefect_dask", reason="the extra `dask` is not installed")
    address, here = f"tcp://127.0.0.1:{free_port()}", ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
    environment = bench.prefect.environment(bench.store.root)
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *words, *here],
            env=environment, cwd=CODE, stdout=bench.prefect.log, stderr=bench.prefect.log,
        )
        for words in (
            ("scheduler", "--port", address.rpartition(":")[2]),
            ("worker", address, "--no-nanny", "--nthreads", "3"),
        )
    ]  # fmt: skip
    bench.besides += [process.pid for process in started]
    yield address
    for process in reversed(started):
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("where", ["here", "there"])
def test_a_run_with_stages_side_by_side_leaves_nothing(
    bench: Bench, where: str, how: str, request: pytest.FixtureRequest
) -> None:
    on, salt = "dask:3" if where == "here" else request.getfixturevalue("cluster"), f"beside {where} {how}"
    sides = {side: {"name": f"{side} {salt}"} for side in ("left", "right")}
    parameters = {"config": {**bench.parameters(salt)["config"], **sides}}
    process = bench.script(parameters, on=on)
    wait_for(lambda: bench.steps() > 2, 60, "the first steps")
    number = signal.Signals[how]
    since = time.monotonic()
    process.send_signal(number)
    bench.gone(since, f"{how} to a run whose stages are on {'its own' if where == 'here' else 'another'} cluster")
    assert process.wait(10) == -number or how == "SIGTERM"
    bench.goes_on(salt)


def test_of_two_runs_of_one_key_one_computes(bench: Bench) -> None:
    runs = [bench.prefect.submit(bench.parameters("twice", pause_seconds=0.02)) for _ in range(2)]
    for run in runs:
        bench.ended(run, "Completed", time.monotonic())

    async def states(client: Any) -> list[str]:
        return [
            item.state_name
            for item in await client.read_task_runs()
            if item.flow_run_id in runs and item.name == "slow"
        ]

    wait_for(lambda: len(bench.prefect.request(states)) == 2, 20, "the states of the tasks")
    wait_for(lambda: sorted(bench.prefect.request(states)) == ["Cached", "Completed"], 20, "one hit and one build")
    bench.ends_as_it_must(bench.build("twice"), "twice")
    assert bench.places() == 0


def test_a_run_whose_process_nobody_watches_is_shown_as_crashed(bench: Bench, orphaned: tuple[UUID, float]) -> None:
    bench.ended(orphaned[0], "Crashed", orphaned[1])
