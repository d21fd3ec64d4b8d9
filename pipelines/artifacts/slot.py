"""One lock a device of this machine, so that no two stages compute on it at once.

It is taken when a stage is about to be built, after the store was asked, so that what is built already never waits. The
kernel frees it with the last process that holds it, so that a dead one never blocks.
"""

import fcntl
import json
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipelines.artifacts.errors import UserError

NAME = re.compile(r"[a-z]+(:[A-Za-z0-9-]{1,64})?")
FOLDER = "GRISTMILL_SLOTS"
"""The variable that names another folder for the locks."""

_held: list[int] = []


@contextmanager
def device_slots(devices: Iterable[str], node: str) -> Iterator[None]:
    """Hold these devices of the machine; wait, and say for whom, while others do. `cpu` is not one of them."""
    names = sorted({physical(device) for device in devices if device != "cpu"})  # in order, or two could wait in a ring
    with ExitStack() as slots:
        for name in names:
            slots.enter_context(_slot(name, node))
        yield


def held_slots() -> tuple[int, ...]:
    """Return the descriptors of the devices held here, for a child that computes on them."""
    return tuple(_held)


def physical(device: str) -> str:
    """Return a device's name on the machine: what a process calls cuda:0 is the first of CUDA_VISIBLE_DEVICES."""
    if not NAME.fullmatch(device):
        raise UserError(f"device: {device!r} is none; write cpu, cuda or cuda:NUMBER")
    kind, _, number = device.partition(":")
    visible = [item.strip() for item in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if item.strip()]
    if kind == "cuda" and visible and (index := int(number or 0)) < len(visible):
        number = visible[index]
    return f"{kind}:{number or 0}"


def slot_folder() -> Path:
    """Return the folder of the locks, made if absent; raise UserError where it is another user's or a link."""
    named = os.environ.get(FOLDER)
    folder = Path(named) if named else Path(tempfile.gettempdir()) / f"gristmill-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
    except OSError as error:
        raise UserError(f"{str(folder)!r}: cannot hold locks of devices ({error.strerror}); set {FOLDER}") from error
    if not named and (not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid()):
        raise UserError(f"{str(folder)!r}: is not this user's own folder; remove it or set {FOLDER} to another")
    return folder


@contextmanager
def _slot(name: str, node: str) -> Iterator[None]:
    from pipelines.artifacts.progress import say

    path = slot_folder() / f"{name.replace(':', '-')}.lock"
    handle = _opened(path)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{node}: {name} is held by {_holder(path)}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"node": node, "process": os.getpid(), "since": time.time()}).encode(), 0)
        _held.append(handle)
        yield
    finally:
        if handle in _held:
            _held.remove(handle)
        os.close(handle)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UserError(f"{str(path)!r}: cannot be opened as a lock ({error.strerror}); remove it") from error


def _holder(path: Path) -> str:
    """Say who holds the lock, by what the last holder wrote."""
    try:
        told = json.loads(path.read_text())
        since = time.strftime("%H:%M:%S", time.localtime(float(told["since"])))
        return f"{str(told['node'])[:80]} (process {int(told['process'])}, since {since})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"
