"""Runs a module's `main` so that it is gone, with all it started, when its starter is: `python -m ... MODULE WORD...`.

Standard input is a pipe whose other end only the starter holds, so the kernel closes it however the starter dies. This
process forks the one that works before it loads anything, and watches: nothing that holds Python's lock for minutes,
and no kill of the worker, keeps it from clearing up.
"""

import ctypes
import importlib
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 2.5
"""From the request to stop, which lets training save, to the kill. With what notices a loss it stays below six."""

KILL_SECONDS = 1.0
"""For killed processes to leave; only one that waits inside the kernel needs longer, and is gone after that."""

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def die_with(parent: int) -> None:
    """End this process with the one that started it, even amid foreign code, where the system can do so."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    """Start the worker, wait for its end or the starter's, leave nothing behind, and end as the worker did."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # who loses its parent below becomes a child of this
    guard = os.getpid()
    worker = os.fork()
    if worker == 0:
        die_with(guard)
        importlib.import_module(sys.argv[1]).main(*sys.argv[2:])
        return
    status = _watch(worker)
    _kill_descendants()
    _end_as(status)


def _watch(worker: int) -> int:
    """Return the worker's status when it has ended, by itself or by force after the grace."""
    signals, noted = os.pipe()
    for end in (signals, noted):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(noted, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    poller = select.poll()
    poller.register(signals, select.POLLIN)
    poller.register(sys.stdin.fileno(), 0)  # what is in the pipe is the worker's; here only its end counts
    deadline: float | None = None
    while (status := _reap(worker)) is None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            os.kill(worker, signal.SIGKILL)
            return os.waitpid(worker, 0)[1]
        for handle, _ in poller.poll(None if left is None else left * 1000):
            if handle != signals:
                poller.unregister(handle)
                deadline = time.monotonic() + GRACE_SECONDS
            elif signal.SIGTERM not in os.read(signals, 4096):
                continue
            os.kill(worker, signal.SIGTERM)
    return status


def _reap(worker: int) -> int | None:
    """Take leave of every child that has ended; return the worker's status if it was one of them."""
    found: int | None = None
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == worker:
                found = ended[1]
    return found


def _kill_descendants() -> None:
    """Kill all that was started below this process, in whatever session, until nothing is left."""
    deadline = time.monotonic() + KILL_SECONDS
    while (left := _descendants(os.getpid())) and time.monotonic() < deadline:
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
        _reap(0)


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {root}
    while grown := {child for child, parent in parents.items() if parent in found} - found:
        found |= grown
    return sorted(found - {root})


def _end_as(status: int) -> None:
    """End this process as the worker ended, so that its starter sees which signal it was."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
