"""Prefect's server and the processes that serve deployments, as real processes that a test ends."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

ROOT = Path(__file__).resolve().parents[2]
END_SECONDS = 60


def _heed_interrupts() -> None:
    """Take SIGINT as ever: who runs the tests in a shell's background ignores it, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Running:
    """A command that runs, its lines, and its end."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**clean, **environment},
            start_new_session=True,
            preexec_fn=_heed_interrupts,
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def line(self, pattern: str, seconds: float) -> re.Match[str]:
        """Return the first match of a line; fail where the process ends or the time is over without one."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for line in list(self.lines):
                if found := re.search(pattern, line):
                    return found
            assert self.process.poll() is None, "\n".join(self.lines)
            time.sleep(0.1)
        raise AssertionError(f"no line {pattern!r} in {seconds} s:\n" + "\n".join(self.lines[-40:]))

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and return the exit status."""
        self.process.send_signal(number)
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            told = "\n".join(self.lines[-40:])
            raise AssertionError(f"it outlived {signal.Signals(number).name} by {END_SECONDS} s:\n{told}") from None
        finally:
            self.reader.join(5)
            assert self.process.stdout
            self.process.stdout.close()


def session_of(pid: int) -> list[int]:
    """Return the processes of the session that `pid` began."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == pid and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


class Api:
    """The server's API as a client that the server's own rules let in."""

    def __init__(self, url: str, auth: tuple[str, str] | None = None) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=60, auth=auth)
        client = uuid4().hex
        token = self.http.get("/csrf-token", params={"client": client}).raise_for_status().json()["token"]
        self.http.headers.update({"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client})

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """Return the answer as JSON; a database that is busy is asked again, as Prefect's client does."""
        for _ in range(10):
            answer = self.http.request(method, path, json=body or None)
            if answer.status_code != 503:
                break
            time.sleep(1)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def deployment(self, name: str) -> dict[str, Any]:
        """Return the deployment of a flow that has its name."""
        found: dict[str, Any] = self.ask("GET", f"/deployments/name/{name}/{name}")
        return found

    def start(self, name: str, **parameters: Any) -> str:
        """Start a run of the deployment and return the run's id."""
        made = self.ask("POST", f"/deployments/{self.deployment(name)['id']}/create_flow_run", parameters=parameters)
        return str(made["id"])

    def runs(self, name: str, **of: Any) -> list[dict[str, Any]]:
        """Return the runs of a deployment, the first first."""
        of_it = {"id": {"any_": [self.deployment(name)["id"]]}}
        found: list[dict[str, Any]] = self.ask(
            "POST", "/flow_runs/filter", deployments=of_it, sort="EXPECTED_START_TIME_ASC", **of
        )
        return found

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def ended(self, run: str, seconds: float = 180) -> dict[str, Any]:
        """Return the run once it has ended."""
        return until(lambda: next(iter(self._final(run)), None), seconds, f"the end of {run}")

    def _final(self, run: str) -> list[dict[str, Any]]:
        found = self.ask("GET", f"/flow_runs/{run}")
        return [found] if found["state"]["type"] in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED") else []


def until(find: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return the first truthy result."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := find():
            return found
        time.sleep(0.5)
    raise AssertionError(f"{what} did not come in {seconds} s")
