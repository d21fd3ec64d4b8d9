"""A Prefect server and a runner as processes of their own, and what is left of a run after either was killed."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

from deployments.prefect_settings import CLIENT

CODE = Path(__file__).resolve().parents[2]
MARK = "GRISTMILL_STORE"
READY, SERVED = "server ready at ", "being served and polling"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Served:
    """A server on loopback with a database of its own, and at most one runner of the toy flow."""

    home: Path
    port: int = field(default_factory=free_port)
    server: subprocess.Popen[bytes] | None = None
    runner: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.log = os.open(self.home / "prefect.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def environment(self, store: Path) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(CODE),
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.url,
            "PYTHONUNBUFFERED": "1",
            **CLIENT,
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "GRISTMILL_SLOTS": str(self.home / "slots"),
            MARK: str(store),
        }

    def start_server(self) -> None:
        """Start `gristmill server` and return once it has made what our runs need."""
        before = self.told(READY)
        self.server = subprocess.Popen(
            [sys.executable, "-m", "deployments.cli", "server", "--port", str(self.port)],
            env=self.environment(self.home / "no-store"), cwd=CODE,
            stdout=self.log, stderr=self.log, start_new_session=True,
        )  # fmt: skip
        wait_for(lambda: self.told(READY) > before, 150, "the server")

    def told(self, words: str) -> int:
        """Return how often the server, the runner or a run has said this."""
        return (self.home / "prefect.log").read_text(errors="replace").count(words)

    def kill_server(self) -> None:
        """Kill the server as a whole."""
        if self.server:
            os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait()
            self.server = None

    def start_runner(self, store: Path) -> None:
        """Start the runner and return once it looks for runs."""
        before = self.told(SERVED)
        self.runner = subprocess.Popen(
            [sys.executable, "-m", "tests.flows.toy_flow"],
            env=self.environment(store), cwd=CODE, stdout=self.log, stderr=self.log, start_new_session=True,
        )  # fmt: skip
        wait_for(lambda: self.told(SERVED) > before, 60, "the runner")

    def kill_runner(self) -> None:
        if self.runner:
            os.kill(self.runner.pid, signal.SIGKILL)
            self.runner.wait()
            self.runner = None

    def request(self, work: Callable[[Any], Any]) -> Any:
        async def asked() -> Any:
            async with get_client() as client:
                return await work(client)

        with temporary_settings({PREFECT_API_URL: self.url}):
            return asyncio.run(asked())

    def submit(self, parameters: dict[str, Any]) -> UUID:
        async def create(client: Any) -> UUID:
            deployment = await client.read_deployment_by_name("toy/toy")
            run = await client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
            return UUID(str(run.id))

        found: UUID = self.request(create)
        return found

    def read(self, run: UUID) -> FlowRun:
        found: FlowRun = self.request(lambda client: client.read_flow_run(run))
        return found

    def state(self, run: UUID) -> State[Any]:
        found = self.read(run).state
        assert found is not None
        return found

    def cancel(self, run: UUID) -> None:
        self.request(lambda client: client.set_flow_run_state(run, Cancelling()))

    def ended(self, run: UUID, seconds: float) -> State[Any]:
        wait_for(lambda: self.state(run).is_final(), seconds, f"the end of the run (it is {self.state(run).name})")
        return self.state(run)


@contextmanager
def served(home: Path) -> Iterator[Served]:
    """Yield a running server; end it and the runner afterwards."""
    one = Served(home)
    try:
        one.start_server()
        yield one
    finally:
        one.kill_runner()
        one.kill_server()
        os.close(one.log)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def wait_for(fact: Callable[[], object], seconds: float, what: str) -> float:
    """Return after how many seconds something became true; fail when it did not in time."""
    start = time.monotonic()
    while not fact():
        assert time.monotonic() - start < seconds, f"{what} did not come in {seconds:.0f} s"
        time.sleep(0.05)
    return time.monotonic() - start


def processes(store: Path, *besides: int) -> dict[int, str]:
    """Return the living processes that were started for a store, whoever their parent is by now, and what they run."""
    found = {}
    wanted = f"{MARK}={store}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if wanted in environment and command and int(folder.name) not in besides:
            found[int(folder.name)] = command
    return found
