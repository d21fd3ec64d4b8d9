"""One shard of sharded work as a step of datatrove: do it alone, commit what it wrote, or note why it failed.

A shard's files carry its number: `documents/part-00003.parquet` and `.progress/errors/errors-00003.jsonl` belong to
shard 3. That is how a shard's manifest finds what to hash, and why shards in parallel never share a file name.
"""

import fcntl
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.pins import file_digest
from pipelines.artifacts.work import PROGRESS, atomic_file, progress_dir

Task = Callable[[int], dict[str, int]]


@dataclass(frozen=True)
class Failure:
    """Why a shard is not finished, and whether the user can mend it."""

    cause: str
    mendable: bool = False


def committed(out: Path, index: int, verify: bool = True) -> dict[str, int] | None:
    """Return the counts of a shard that is finished and whose files are as they were written, else None."""
    try:
        manifest = json.loads(_record(out, index).read_text())
        if verify and any(file_digest(out / name) != digest for name, digest in manifest["files"].items()):
            return None
    except (OSError, ValueError, KeyError):
        return None
    return {str(name): int(value) for name, value in manifest["counts"].items()}


def shard_files(out: Path, index: int) -> list[Path]:
    """Return the files that shard `index` has written, found by its number at the end of their names."""
    pattern = f"*/*-{index:05d}.*"
    return sorted([*out.glob(pattern), *(out / PROGRESS).glob(pattern)])


def failure_of(out: Path, index: int) -> Failure | None:
    """Return why the last attempt at a shard failed, or None where it left no word."""
    try:
        return Failure(**json.loads(_record(out, index, "failed").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def forget_failures(out: Path, indices: Iterable[int]) -> None:
    """Remove what earlier attempts at these shards left to say."""
    for index in indices:
        _record(out, index, "failed").unlink(missing_ok=True)


def cause_of(error: BaseException) -> str:
    """Return an error in one line: its own words where they are meant for people, else its kind as well."""
    meant = isinstance(error, UserError | StageFailed)
    return str(error) if meant else f"{type(error).__name__}: {error}"


def _record(out: Path, index: int, kind: str = "json") -> Path:
    return out / PROGRESS / "shards" / f"{index:05d}.{kind}"


@contextmanager
def _alone(out: Path, index: int) -> Iterator[None]:
    """Wait until no worker of a killed run is still at this shard."""
    path = progress_dir(out) / "shards" / f"{index:05d}.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class ShardStep(PipelineStep):  # type: ignore[misc]  # datatrove is untyped
    """The shards that are still to do, of `count` in all; datatrove's rank is a place in `shards`."""

    name = "shard"
    type = "gristmill"

    def __init__(self, task: Task, out: Path, what: str, shards: tuple[int, ...], count: int) -> None:
        super().__init__()
        self.task, self.out, self.what, self.shards, self.count = task, out, what, shards, count

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterable[Any]:
        """Do the shard at place `rank` and commit it; raise UserError or a StageFailed that names it."""
        index = self.shards[rank]
        with _alone(self.out, index):
            try:
                if committed(self.out, index) is None:  # else a job that was thought lost has done it
                    self._commit(index, dict(self.task(index)))
            except Exception as error:
                mendable = isinstance(error, UserError)
                self._note(index, Failure(cause_of(error), mendable))
                if mendable:
                    raise
                raise StageFailed(self.says(index, cause_of(error))) from error
        return ()

    def says(self, index: int, cause: str) -> str:
        """Return the line that names a failed shard."""
        return f"{self.what}: shard {index} of {self.count} failed ({cause})"

    def _commit(self, index: int, counts: dict[str, int]) -> None:
        files = {str(path.relative_to(self.out)): file_digest(path) for path in shard_files(self.out, index)}
        with atomic_file(_record(self.out, index), self.out) as fresh:
            fresh.write_text(json.dumps({"counts": counts, "files": files}, sort_keys=True))

    def _note(self, index: int, failure: Failure) -> None:
        with suppress(OSError):  # the disk may be what failed
            _record(self.out, index, "failed").write_text(json.dumps(failure.__dict__))
