"""One writer a key across hosts: records in the shared store, renewed while their holders live.

Every holding is a numbered record, `.leases/<stage>/<key>/<number>`, made with O_EXCL and never removed: who makes the
next number holds the key. A record whose time does not move for a lease's length, by the waiter's own clock, belongs to
a dead holder. No two hosts compare their clocks.

A work directory belongs to one host. Another host that goes on moves it away, so that what a stale writer does next has
no path, and builds in a copy under a name of its own, so that no open file of a stale writer leads into what is
published. On one host the key's `flock` says who lives, and nothing of this takes time.
"""

import json
import os
import platform
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from uuid import uuid4

from pipelines.artifacts.errors import StageFailed
from pipelines.artifacts.progress import say

LEASE_SECONDS = 60.0
"""A holder that is not heard from for so long is taken for dead."""

RENEW_SECONDS = 10.0
POLL_SECONDS = 0.5
HELD, RELEASED, TAKEN = "held", "released", "taken"


@dataclass(frozen=True)
class Record:
    """One holding of a key."""

    id: str
    host: str
    name: str
    pid: int
    state: str
    work: str
    """The name of the key's work directory."""
    builder: str | None
    """The host that may write into it; None before the first build."""


@cache
def host_id() -> str:
    """Return what tells this host from others: its kernel's boot, so that containers that share locks are one host."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


class Lease:
    """A key held by this process."""

    def __init__(self, folder: Path, number: int, record: Record) -> None:
        self.path, self.record, self.pid = folder / str(number), record, os.getpid()

    def held(self) -> bool:
        """Say whether no other host has taken the key over. The record is opened anew: NFS shows news at an open."""
        record, _ = _read(self.path)
        return record is not None and record.id == self.record.id and record.state == HELD

    def check(self) -> None:
        """Raise StageFailed where another host has taken the key over: what this one built must not be published."""
        if not self.held():
            raise StageFailed(f"{self.path.parent.name[:12]}: another host has taken it over")

    def renew(self) -> bool:
        """Show that the holder lives; return False where the key was taken over."""
        if not self.held():
            return False
        os.utime(self.path)
        return True

    def work(self, ground: Path, *, resumable: bool) -> Path:
        """Return the directory below `ground` that this host alone builds in; it may be absent.

        What another host left is moved away and, of a resumable stage, copied; a kill in between loses no progress.
        """
        key = self.path.parent.name
        mine = self.record.builder in (None, host_id())
        work = ground / (self.record.work if mine else f"{key}.{self.path.name}")
        ground.mkdir(parents=True, exist_ok=True)
        if not mine:
            with suppress(FileNotFoundError):
                (ground / self.record.work).rename(ground / f"{work.name}.left")
        if self.record.builder != host_id():
            self._write(replace(self.record, work=work.name, builder=host_id()))
        left = sorted(ground.glob(f"{key}.*.left"), key=lambda folder: int(folder.name.split(".")[1]))
        if left and resumable and not work.exists():
            fresh = ground / f"{work.name}.copy"
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(left[-1], fresh, symlinks=True)
            fresh.rename(work)
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)
        return work

    def release(self) -> None:
        """Leave the key to the next one. A forked child leaves that to its parent."""
        if self.pid == os.getpid() and self.held():
            self._write(replace(self.record, state=RELEASED))

    def _write(self, record: Record) -> None:
        _replace(self.path, record)
        self.record = record


@contextmanager
def leased(folder: Path, waiting: str | None = None) -> Iterator[Lease]:
    """Hold the key of this folder of records against other hosts; this host's own lock of it must be held."""
    lease = _acquire(folder, waiting)
    stop = threading.Event()
    threading.Thread(target=_renew_until, args=(lease, stop), name="lease", daemon=True).start()
    try:
        yield lease
    finally:
        stop.set()
        with suppress(OSError):  # a full disk; on this host the lock tells that the key is free, elsewhere its silence
            lease.release()


def work_name(folder: Path) -> str:
    """Return the name of the key's present work directory."""
    record = _last_readable(folder, _newest(folder))
    return record.work if record else folder.name


def held_elsewhere(folder: Path) -> bool:
    """Say whether another host holds the key, or died while it did."""
    record, _ = _read(folder / str(_newest(folder)))
    return record is not None and record.state == HELD and record.host != host_id()


def _renew_until(lease: Lease, stop: threading.Event) -> None:
    while not stop.wait(RENEW_SECONDS):
        with suppress(OSError):  # a file server that is away for a moment: the next turn tells
            if not lease.renew():
                return


def _acquire(folder: Path, waiting: str | None) -> Lease:
    folder.mkdir(parents=True, exist_ok=True)
    number, told = _newest(folder), False
    last_sign: tuple[int, int | None] | None = None
    since = time.monotonic()
    while True:
        record, beat = _read(folder / str(number))
        if last_sign != (number, beat):
            last_sign, since = (number, beat), time.monotonic()
        free = number == 0 or (record is not None and (record.state == RELEASED or record.host == host_id()))
        if free or time.monotonic() - since > LEASE_SECONDS:
            lease = _claim(folder, number)
            if lease:
                return lease
            number += 1  # another was faster; a listing of NFS may not show it yet
            continue
        if waiting and not told:
            say(f"{waiting} (on host {record.name if record else 'unknown'})")
            told = True
        time.sleep(POLL_SECONDS)
        number = max(number, _newest(folder))


def _claim(folder: Path, number: int) -> Lease | None:
    """Make the record after `number`; return None where another did. Those before it that still stood are ended."""
    last = _last_readable(folder, number)
    record = Record(
        id=uuid4().hex,
        host=host_id(),
        name=platform.node(),
        pid=os.getpid(),
        state=HELD,
        work=last.work if last else folder.name,
        builder=last.builder if last else None,
    )
    try:
        with (folder / str(number + 1)).open("x") as file:
            file.write(json.dumps(asdict(record)))
    except FileExistsError:
        return None
    for earlier in range(number, 0, -1):
        dead, _ = _read(folder / str(earlier))
        if dead is not None and dead.state != HELD:
            break
        if dead is not None:
            _replace(folder / str(earlier), replace(dead, state=TAKEN))
            if dead.host != host_id():
                say(
                    f"{folder.name[:12]}: host {dead.name} was silent for {LEASE_SECONDS:.0f} s; its work is taken over"
                )
    return Lease(folder, number + 1, record)


def _last_readable(folder: Path, number: int) -> Record | None:
    """Return the newest record up to `number` that is whole: a holder may have died while it wrote its own."""
    found = (_read(folder / str(earlier))[0] for earlier in range(number, 0, -1))
    return next((record for record in found if record is not None), None)


def _newest(folder: Path) -> int:
    try:
        return max((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), default=0)
    except FileNotFoundError:
        return 0


def _read(path: Path) -> tuple[Record | None, int | None]:
    """Return a record and the time of its last sign of life; None where it is absent or was cut by a kill."""
    try:
        with path.open() as file:
            beat = os.fstat(file.fileno()).st_mtime_ns
            content = file.read()
    except OSError:
        return None, None
    try:
        return Record(**json.loads(content)), beat
    except (ValueError, TypeError):
        return None, beat


def _replace(path: Path, record: Record) -> None:
    fresh = path.with_name(f".{path.name}.{uuid4().hex}")
    fresh.write_text(json.dumps(asdict(record)))
    fresh.replace(path)
