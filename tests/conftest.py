"""What all tests share: the public data, and a store."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from pipelines.artifacts.run import LocalRun, NodeResult, record_run, until_sound
from pipelines.artifacts.store import Store
from pipelines.products import full
from pipelines.recipes import smoke
from tests.deployments.servers import Running, session_of

# A time limit on an example fails on a loaded machine: how long things take is for benchmarks/.
settings.register_profile("gristmill", deadline=None)
settings.load_profile("gristmill")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data beside the checkout; a test that needs it skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"the public test data is not at {SHARED}")
    return SHARED


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    opened = Store(tmp_path / "store")
    opened.prepare()
    return opened


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-golden", action="store_true", help="write the golden files from this run")
    parser.addoption("--screenshots", action="store_true", help="write docs/ui-*.png from the browser tests")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which room takes the time, in seconds of wall time with its fixtures; this file's belong to who is first."""
    seconds = Counter[str]()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                room = Path(report.nodeid.partition("::")[0]).parts[1]
                seconds[room.removesuffix(".py")] += report.duration
    if sum(seconds.values()) > 60:
        told = (f"{room} {taken:.0f}" for room, taken in seconds.most_common() if taken >= 1)
        terminalreporter.write_line(f"seconds by room: {', '.join(told)}")


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The PREFECT_HOME of a server that `gristmill server` has started once, on an empty database, and ended.

    A server that starts from a copy of it answers in seconds, and on an empty database in half a minute. Servers share
    nothing but this beginning.
    """
    home = tmp_path_factory.mktemp("prefect") / "home"
    running = Running(["deployments.cli", "server", "--port", "0"], {"PREFECT_HOME": str(home)})
    pid = running.process.pid
    try:
        running.line("server ready at ", 180)
    finally:
        status = running.end()
    assert status == 0
    assert not session_of(pid), "SIGTERM leaves no process"
    return home


@dataclass(frozen=True)
class Finished:
    """A finished run of a recipe and the store that it filled."""

    store: Store
    results: dict[str, NodeResult]


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The smoke recipe, run once a session in this process: every stage, on real text, in under two minutes."""
    store = Store(tmp_path_factory.mktemp("smoke") / "store")
    store.prepare()
    run = LocalRun(store)
    until_sound(lambda: full(smoke(), run), run)
    record_run(store, "full", run.results)
    return Finished(store, {result.node: result for result in run.results})
