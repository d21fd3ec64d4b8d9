"""Shards on this machine, in processes of datatrove's local executor without its manager process.

A killed parent would leave that manager behind. Which shards are done is decided by their manifests; datatrove's own
markers are never read.
"""

import os
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.utils.stats import PipelineStats
from loguru import logger

from pipelines.artifacts.build import is_full_disk
from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.work import progress_dir, share_work
from pipelines.corpus.execution import start_worker_server
from pipelines.corpus.shard_step import Failure, ShardStep, failure_of

DIED = "its process died, perhaps out of memory; run again with fewer workers or smaller shards"


class LocalShards(LocalPipelineExecutor):  # type: ignore[misc]  # datatrove is untyped
    """Works on a step's shards, `workers` at a time; with one worker in this process."""

    def __init__(self, step: ShardStep, workers: int) -> None:
        self.step = step
        self.errors: dict[int, BaseException] = {}
        tasks = len(step.shards)
        logs = str(progress_dir(step.out) / "datatrove")
        super().__init__(
            [step], tasks=tasks, workers=max(min(workers, tasks), 1), logging_dir=logs, skip_completed=False
        )

    def finished(self) -> Iterator[int]:
        """Yield each shard as it is committed; raise UserError, or StageFailed for a full disk, at once."""
        if self.workers == 1:
            for place in range(self.tasks):
                try:
                    self._run_for_rank(place)
                except Exception as error:  # noqa: BLE001 - the next shards are tried, and all failures named
                    self._failed(place, error)
                else:
                    yield self.step.shards[place]
            return
        waiting = deque(range(self.tasks))
        while waiting:
            suspects = yield from self._pool(waiting, self.workers)
            for place in suspects:  # one of them took the pool down: each is tried again by itself
                if (yield from self._pool(deque([place]), 1)):
                    self.errors[self.step.shards[place]] = BrokenProcessPool(DIED)

    def failure(self, index: int) -> tuple[Failure, BaseException | None]:
        """Return why a shard was not committed."""
        error = self.errors.get(index)
        if isinstance(error, BrokenProcessPool):
            return Failure(str(error)), error
        return failure_of(self.step.out, index) or Failure(str(error or "it was not tried")), error

    def _pool(self, waiting: deque[int], workers: int) -> Generator[int, None, list[int]]:
        """Work until nothing waits, yielding finished shards; return what was being done when a process died."""
        context = get_context("forkserver")
        start_worker_server()
        running: dict[Future[PipelineStats], int] = {}
        with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(self,)) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < workers:
                        running[pool.submit(_run, waiting[0])] = waiting[0]
                        waiting.popleft()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        error = future.exception()
                        if isinstance(error, BrokenProcessPool):
                            return sorted(running.values())
                        place = running.pop(future)
                        if error:
                            self._failed(place, error)
                        else:
                            yield self.step.shards[place]
            except BrokenProcessPool:  # between two shards
                return sorted(running.values())
            finally:
                pool.shutdown(cancel_futures=True)
        return []

    def _failed(self, place: int, error: BaseException) -> None:
        """Note a failure that the other shards need not share; raise one that they would."""
        if isinstance(error, UserError) or not isinstance(error, StageFailed) or is_full_disk(error):
            raise error
        self.errors[self.step.shards[place]] = error

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> PipelineStats:
        logger.disable("datatrove")
        return super()._run_for_rank(rank, local_rank, node_rank)


_mine: list[LocalShards] = []
"""In a worker process, the executor that it works for: sent once, not with every shard."""


def _run(place: int) -> PipelineStats:
    return _mine[0]._run_for_rank(place)


def _begin(executor: LocalShards) -> None:
    """Keep the next builder out of the work directory while this worker lives, and end it with its parent."""
    _mine[:] = [executor]
    share_work(Path(executor.step.out))
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
