"""The server of a run that names none."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.server.api.server import SubprocessASGIServer

from deployments.temporary_server import GuardedServer

START = """
from deployments.temporary_server import GuardedServer
server = GuardedServer()
server.port = server.find_available_port()
child = server._run_uvicorn_command()
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture(autouse=True)
def no_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SubprocessASGIServer, "_instances", {})


def test_prefect_takes_the_guarded_server_for_its_own() -> None:
    ours = GuardedServer()
    assert SubprocessASGIServer() is ours


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's table of processes")
def test_kill_9_of_a_run_takes_its_server_along(tmp_path: Path) -> None:
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path), "GRISTMILL_STORE": str(tmp_path)}
    run = subprocess.Popen([sys.executable, "-c", START], env=environment, stdout=subprocess.PIPE, text=True)
    assert run.stdout
    guard = int(run.stdout.readline())
    children = Path(f"/proc/{guard}/task/{guard}/children")
    while not (worker := children.read_text().strip()):
        time.sleep(0.05)
    run.kill()
    since = time.monotonic()
    run.wait()
    run.stdout.close()
    while any(Path(f"/proc/{number}").exists() for number in (guard, worker)):
        assert time.monotonic() - since < 6
        time.sleep(0.05)
    print(f"kill -9 of a run: its temporary server was gone after {time.monotonic() - since:.1f} s")
