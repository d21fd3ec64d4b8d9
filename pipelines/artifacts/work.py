"""A stage's work directory: atomic files, committed progress, and what is never published."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

PROGRESS = ".progress"
"""The folder of `out` that holds checkpoints, finished parts and temporary files; it is removed before publishing."""


@dataclass(frozen=True)
class Progress:
    """How far an unfinished stage has come, in whole committed units."""

    done: int
    total: int
    unit: str


def progress_dir(out: Path) -> Path:
    """Return the folder for checkpoints and temporary files of a stage that builds in `out`, made if absent."""
    folder = out / PROGRESS
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fsync_dir(folder: Path) -> None:
    """Make the folder's entries survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_file(path: Path, out: Path) -> Iterator[Path]:
    """Yield a temporary path whose content becomes `path` in one rename when the block ends without an error."""
    fresh = progress_dir(out) / f"{path.name}.tmp"
    yield fresh
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh.replace(path)
    fsync_dir(path.parent)


def commit_progress(out: Path, progress: Progress) -> None:
    """Record that `progress.done` units are safe on disk; a plan then shows the stage as partial."""
    with atomic_file(out / PROGRESS / "progress.json", out) as fresh:
        fresh.write_text(json.dumps(asdict(progress)))


def read_progress(out: Path) -> Progress | None:
    """Return the committed progress of a work directory, or None where nothing was committed."""
    try:
        return Progress(**json.loads((out / PROGRESS / "progress.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def share_work(out: Path) -> int:
    """Mark this worker process as one that writes into `out`, until it ends; return the held descriptor.

    A worker may outlive a killed parent for an instant, while the parent's own lock is already free.
    """
    handle = os.open(_workers_file(out), os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def await_orphans(out: Path) -> None:
    """Return when no worker of an earlier, killed build writes into `out` any more."""
    handle = os.open(_workers_file(out), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


def _workers_file(out: Path) -> Path:
    return out.with_name(f"{out.name}.workers")
