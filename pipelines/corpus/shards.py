"""Sharded work that survives a kill: each finished shard commits a manifest, and a rerun does only the others.

A shard's files carry its number: `documents/part-00003.parquet` and `.progress/errors/errors-00003.jsonl` belong to
shard 3. That is how a shard's manifest finds what to hash, and why shards in parallel never share a file name.
"""

import fcntl
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.stats import PipelineStats
from loguru import logger

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.pins import file_digest
from pipelines.artifacts.progress import meter
from pipelines.artifacts.work import PROGRESS, Progress, atomic_file, commit_progress, progress_dir, share_work

Task = Callable[[int], dict[str, int]]


def run_shards(task: Task, count: int, *, out: Path, workers: int, what: str) -> dict[str, int]:
    """Run `task` on every shard from 0 to `count` - 1 that `out` does not hold yet and return the summed counts.

    The task writes its files atomically, under names that end in its five-digit number, and returns counts. It must
    be picklable; with one worker it runs in this process. Raises StageFailed, or the task's own UserError, naming the
    shard; finished shards stay.
    """
    waiting = [index for index in range(count) if committed(out, index) is None]
    done = count - len(waiting)
    executor = ShardExecutor(_Shard(task, out, what), count, min(workers, max(len(waiting), 1)), out)
    with meter(what, total=count, unit="shards", done=done) as shown:
        for _ in executor.finished(waiting):
            done += 1
            commit_progress(out, Progress(done, count, "shards"))
            shown.advance()
    total: Counter[str] = Counter()
    for index in range(count):
        total.update(committed(out, index, verify=False) or {})
    return dict(total)


def committed(out: Path, index: int, verify: bool = True) -> dict[str, int] | None:
    """Return the counts of a shard that is finished and whose files are as they were written, else None."""
    try:
        manifest = json.loads(_manifest_path(out, index).read_text())
        if verify and any(file_digest(out / name) != digest for name, digest in manifest["files"].items()):
            return None
    except (OSError, ValueError, KeyError):
        return None
    return {str(name): int(value) for name, value in manifest["counts"].items()}


def shard_files(out: Path, index: int) -> list[Path]:
    """Return the files that shard `index` has written, found by its number at the end of their names."""
    pattern = f"*/*-{index:05d}.*"
    return sorted([*out.glob(pattern), *(out / PROGRESS).glob(pattern)])


def _manifest_path(out: Path, index: int) -> Path:
    return out / PROGRESS / "shards" / f"{index:05d}.json"


def _commit(out: Path, index: int, counts: dict[str, int]) -> None:
    files = {str(path.relative_to(out)): file_digest(path) for path in shard_files(out, index)}
    with atomic_file(_manifest_path(out, index), out) as fresh:
        fresh.write_text(json.dumps({"counts": counts, "files": files}, sort_keys=True))


@contextmanager
def _alone(out: Path, index: int) -> Iterator[None]:
    """Wait until no worker of a killed run is still at this shard."""
    path = progress_dir(out) / "shards" / f"{index:05d}.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _Shard(PipelineStep):  # type: ignore[misc]  # datatrove is untyped
    """One shard of the work, as a step of datatrove."""

    name = "shard"
    type = "gristmill"

    def __init__(self, task: Task, out: Path, what: str) -> None:
        super().__init__()
        self.task, self.out, self.what = task, out, what

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterable[Any]:
        """Do shard `rank` and commit it."""
        with _alone(self.out, rank):
            try:
                _commit(self.out, rank, dict(self.task(rank)))
            except UserError:
                raise
            except Exception as error:
                cause = str(error) if isinstance(error, StageFailed) else f"{type(error).__name__}: {error}"
                raise StageFailed(f"{self.what}: shard {rank} of {world_size} failed ({cause})") from error
        return ()


class ShardExecutor(LocalPipelineExecutor):  # type: ignore[misc]  # datatrove is untyped
    """Datatrove's local executor without its manager process, which a killed parent would leave behind.

    Which shards are done is decided by their manifests; datatrove's own markers are never read.
    """

    def __init__(self, step: PipelineStep, tasks: int, workers: int, out: Path) -> None:
        logs = str(progress_dir(out) / "datatrove")
        super().__init__([step], tasks=tasks, workers=workers, logging_dir=logs, skip_completed=False)
        self.what, self.out = step.what, out

    def finished(self, ranks: list[int]) -> Iterator[int]:
        """Run the ranks, yielding each as it ends; after a failure those that have started still end."""
        if self.workers == 1:
            for rank in ranks:
                self._run_for_rank(rank)
                yield rank
            return
        context = get_context("forkserver")
        context.set_forkserver_preload(["pipelines.corpus.shards", "pipelines.corpus.documents"])
        with ProcessPoolExecutor(self.workers, context, initializer=_begin_worker, initargs=(self.out,)) as pool:
            futures = {pool.submit(self._run_for_rank, rank): rank for rank in ranks}
            try:
                for future in as_completed(futures):
                    _result(future, self.what)
                    yield futures[future]
            finally:
                pool.shutdown(cancel_futures=True)

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> PipelineStats:
        logger.disable("datatrove")
        return super()._run_for_rank(rank, local_rank, node_rank)


def _result(future: "Future[PipelineStats]", what: str) -> None:
    try:
        future.result()
    except BrokenProcessPool as error:
        raise StageFailed(
            f"{what}: a worker process died, perhaps out of memory; run again with fewer workers"
        ) from error


def _begin_worker(out: Path) -> None:
    """Keep the next builder out of `out` while this worker lives, and end it with the process that started it."""
    share_work(out)
    _die_with_parent()


def _die_with_parent() -> None:
    """End this worker as soon as the process that started it is gone, however it went."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()
