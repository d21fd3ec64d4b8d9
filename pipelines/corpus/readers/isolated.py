"""A child process for parsers that may hang, crash or explode on what a stranger wrote.

The limits are CPU time and memory, which the kernel keeps; no clock on the wall is read, so that a loaded machine makes
the same corpus. Question and answer are JSON: nothing that a taken-over child sends is executed.
"""

import json
import math
import os
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from pipelines.artifacts.errors import StageFailed

MEMORY_BYTES = 3 << 30
"""Address space of a child, most of which a library maps and never touches."""

FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP)
TOO_SLOW = "too_slow"
CRASHED = "crashed"
OUT_OF_MEMORY = "out_of_memory"
MEMORY_ENDED = 3
"""Exit status of a child that Python told of the end of its memory; a library in C may crash instead."""


class Isolated:
    """A function of JSON values that runs in a child process; the child is started anew after it has died."""

    def __init__(self, work: Callable[..., Any], cpu_seconds: int, memory_bytes: int = MEMORY_BYTES) -> None:
        self._work, self._cpu_seconds, self._memory_bytes = work, cpu_seconds, memory_bytes
        self._child: BaseProcess | None = None
        self._line: Connection | None = None

    def __call__(self, *question: Any) -> Any:
        """Return the answer; raise ChildDied when this question cost two children their lives.

        A child that dies is followed by a fresh one, so that neither what it was asked before nor an accident decides.
        Raises StageFailed when a child was killed from outside, which no question does.
        """
        try:
            return self._asked(question)
        except ChildDied:
            return self._asked(question)

    def _asked(self, question: tuple[Any, ...]) -> Any:
        if self._child is None or self._line is None:
            self._child, self._line = self._started()
        try:
            self._line.send_bytes(json.dumps(question).encode())
            return json.loads(self._line.recv_bytes())
        except (EOFError, OSError, ValueError):
            raise ChildDied(self._buried(self._child, self._line)) from None

    def _started(self) -> tuple[BaseProcess, Connection]:
        # Spawned and not forked: a forked child would hold this process's locks, threads and open files.
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._work, self._cpu_seconds, self._memory_bytes)
        child = context.Process(target=_serve, args=arguments, daemon=True)
        child.start()
        theirs.close()
        try:
            ours.recv_bytes()
        except EOFError:
            raise StageFailed(
                f"{self._work.__name__}: its process did not start; a script that calls a stage needs "
                "`if __name__ == '__main__':` before the call"
            ) from None
        return child, ours

    def _buried(self, child: BaseProcess, line: Connection) -> str:
        line.close()
        child.join()
        code = child.exitcode
        child.close()
        self._child = self._line = None
        if code in FROM_OUTSIDE:
            name = signal.Signals(-code).name
            raise StageFailed(
                f"{self._work.__name__}: its process was ended by {name}, perhaps out of memory; run again"
            )
        return {-signal.SIGXCPU: TOO_SLOW, MEMORY_ENDED: OUT_OF_MEMORY}.get(code or 0, CRASHED)


class ChildDied(Exception):
    """A question that no answer came to; the reason is `too_slow`, `out_of_memory` or `crashed`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _serve(line: Connection, work: Callable[..., Any], cpu_seconds: int, memory_bytes: int) -> None:
    """Answer questions until the other end is closed; the kernel ends this process when one takes too long."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, which gets it too, decides what an interrupt means
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    line.send_bytes(b"ready")
    while True:
        try:
            question = json.loads(line.recv_bytes())
        except EOFError:
            return
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + cpu_seconds, most))
        try:
            line.send_bytes(json.dumps(work(*question)).encode())
        except MemoryError:
            os._exit(MEMORY_ENDED)
