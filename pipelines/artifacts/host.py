"""The stage host: one child process a run, in which its stages are built, and which is gone when the run is."""

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipelines.artifacts.build import Built, artifact_of
from pipelines.artifacts.errors import Killed, OutOfMemory, StageFailed
from pipelines.artifacts.guard import GRACE_SECONDS, KILL_SECONDS
from pipelines.artifacts.job import Job, error_of, job_line
from pipelines.artifacts.oom import oom_kills
from pipelines.artifacts.progress import Sink, say, sink_here
from pipelines.artifacts.redaction import redacted, secret_values

CODE = Path(__file__).resolve().parents[2]
LONGEST_LINE = 8_000
"""Of what a stage prints: the rest of a longer line is left out."""

Hear = Callable[[int, str], None]
"""Takes what the host says: a level of `logging` and a line in which no secret is."""


class StageHost:
    """Builds stages in a child process that is started with the first one and serves all that follow.

    The child and everything below it are gone a few seconds after this process is, however it went.
    """

    def __init__(self, hear: Hear = lambda level, line: None) -> None:
        self.hear = hear
        self.free = threading.Lock()
        """Held by who has it build: it does one job at a time."""
        self._secrets = secret_values()
        self.child: subprocess.Popen[bytes] | None = None
        self._sinks: dict[int, Sink] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def build(self, job: Job) -> Built:
        """Return the built stage; raise what its `build` raised, or Killed where the child was ended from outside.

        When this is left by an exception, a stop or a time limit among them, the child is gone.
        """
        done = False
        try:
            built = self._built(job)
            done = True
        finally:
            if not done:
                self.end()
        return built

    def stop(self) -> None:
        """Let what is being built in another thread save and stop, or be killed after a grace; its `build` raises."""
        if (child := self.child) and child.stdin:
            with suppress(BrokenPipeError):
                child.stdin.close()

    def end(self) -> None:
        """Let the child save and stop if it works, kill it after a grace, and return when nothing of it is left."""
        child, self.child = self.child, None
        if child is None:
            return
        deadline = time.monotonic() + GRACE_SECONDS + KILL_SECONDS + 1
        try:
            if child.stdin:
                child.stdin.close()
            while self._lines.is_open(self._messages) and time.monotonic() < deadline:
                self._relay(self._lines.arrived(0.1))  # a full pipe would keep it from saving
        finally:
            child.kill()
            child.wait()
            for sink in self._sinks.values():
                sink.end()
            self._lines.close()

    def _built(self, job: Job) -> Built:
        kills = oom_kills()
        child = self._sent(job)
        answer: list[Any] | None = None
        while answer is None and self._lines.is_open(self._messages):
            answer = self._relay(self._lines.arrived(None))
        self._relay(self._lines.arrived(0))
        if answer is None:
            raise how_it_ended(job.node, child.wait(), for_memory=oom_kills() > kills)
        kind, *fields = answer
        if kind == "failed":
            raise error_of(fields[0], redacted(fields[1], self._secrets))
        key, hit, seconds = fields
        manifest = job.store.find(job.stage.name, key)
        if manifest is None:
            raise StageFailed(f"{job.node}: {key[:12]} has left the store as soon as it was built; run again")
        return Built(artifact_of(job.store, manifest, job.node), manifest, hit, seconds)

    def _sent(self, job: Job) -> subprocess.Popen[bytes]:
        """Hand the job to the child, a fresh one where there is none that lives."""
        if self.child is None or self.child.poll() is not None:
            self.end()
            self.child = self._started()
        if self.child.stdin:
            with suppress(BrokenPipeError, ValueError):  # it is dead already or stopped, which its silence tells
                self.child.stdin.write(job_line(job))
                self.child.stdin.flush()
        return self.child

    def _started(self) -> subprocess.Popen[bytes]:
        self._messages, theirs = os.pipe()
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", "pipelines.artifacts.guard", "pipelines.artifacts.host_child", str(theirs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs,),
                env=_environment(),
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        text = os.dup(child.stdout.fileno()) if child.stdout else -1
        if child.stdout:
            child.stdout.close()
        self._lines = Lines(self._messages, text)
        self._sinks = {}
        return child

    def _relay(self, lines: list[tuple[int, bytes]]) -> list[Any] | None:
        """Pass on what the child said; return its answer to the job if that was among it."""
        answer: list[Any] | None = None
        for handle, line in lines:
            if handle != self._messages:
                self._print(line)
                continue
            kind, *fields = json.loads(line)
            if kind == "progress":
                number, what, *rest = fields
                self._sinks.setdefault(number, sink_here()).show(redacted(what, self._secrets), *rest)
            elif kind == "end":
                if sink := self._sinks.pop(fields[0], None):
                    sink.end()
            elif kind == "log":
                self._log(*fields)
            else:
                answer = [kind, *fields]
        return answer

    def _print(self, line: bytes) -> None:
        """Show a line that the child printed; of a bar that redraws itself only the last state."""
        text = line.decode(errors="replace").rstrip().rpartition("\r")[2][:LONGEST_LINE]
        if text:
            text = redacted(text, self._secrets)
            say(text)
            self.hear(logging.INFO, text)

    def _log(self, level: int, name: str, text: str) -> None:
        self.hear(level, redacted(f"{name}: {text}", self._secrets)[:LONGEST_LINE])


class Lines:
    """What arrives on pipes, in whole lines."""

    def __init__(self, *handles: int) -> None:
        self._rest = dict.fromkeys(handles, b"")
        self._selector = selectors.DefaultSelector()
        for handle in handles:
            os.set_blocking(handle, False)
            self._selector.register(handle, selectors.EVENT_READ)

    def is_open(self, handle: int) -> bool:
        """Say whether more can come on this pipe."""
        return handle in self._rest

    def arrived(self, seconds: float | None) -> list[tuple[int, bytes]]:
        """Return the lines that are there by now, each with its pipe; wait so long, or for ever, for the first."""
        found: list[tuple[int, bytes]] = []
        for key, _ in self._selector.select(seconds):
            data = os.read(key.fd, 1 << 20)
            *whole, rest = (self._rest[key.fd] + data).split(b"\n")
            found += [(key.fd, line) for line in whole]
            self._rest[key.fd] = rest
            if not data:
                self._close(key.fd)
                if rest:
                    found.append((key.fd, rest))
        return found

    def close(self) -> None:
        """Close what is still open."""
        for handle in tuple(self._rest):
            self._close(handle)
        self._selector.close()

    def _close(self, handle: int) -> None:
        self._selector.unregister(handle)
        del self._rest[handle]
        os.close(handle)


def _environment() -> dict[str, str]:
    """Return this process's environment with our code first, and with loguru's lines short enough for a log."""
    known = os.environ.get("PYTHONPATH")
    return {
        "LOGURU_LEVEL": "INFO",
        "LOGURU_FORMAT": "{name}: {message}",
        **os.environ,
        "PYTHONPATH": f"{CODE}{os.pathsep}{known}" if known else str(CODE),
        "PYTHONSAFEPATH": "1",  # else a file of the current folder could stand for a library
    }


def how_it_ended(node: str, status: int, *, for_memory: bool) -> StageFailed:
    """Return the error of a child that ended without an answer."""
    kept = "run again: what it had committed is kept"
    if for_memory:
        return OutOfMemory(
            f"{node}: the kernel killed its process for lack of memory; lower its workers or micro_batch or give it "
            f"more memory, and {kept}"
        )
    if status == -signal.SIGKILL:
        return Killed(f"{node}: its process was killed (SIGKILL), perhaps for lack of memory; {kept}")
    if status < 0:
        return Killed(f"{node}: its process was ended by {signal.Signals(-status).name}; {kept}")
    return StageFailed(f"{node}: its process ended with status {status} and no result; its last lines tell why")
