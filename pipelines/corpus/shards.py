"""Sharded work that survives a kill: each finished shard commits a manifest, and a rerun does only the others."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.progress import meter
from pipelines.artifacts.work import Progress, commit_progress
from pipelines.corpus.execution import ShardedConfig
from pipelines.corpus.shard_step import Failure, ShardStep, Task, committed, forget_failures

NAMED = 5
"""Failed shards that a message lists by number."""


class Executor(Protocol):
    """Works on the shards of a step somewhere."""

    def finished(self) -> Iterator[int]:
        """Yield each shard as it is committed; a failed one stops no other, but for a user's mistake."""
        ...

    def failure(self, index: int) -> tuple[Failure, BaseException | None]:
        """Return why a shard was not committed and, where it happened in reach, the error."""
        ...


def run_shards(
    task: Task, count: int, *, out: Path, workers: int, what: str, execution: ShardedConfig | None = None
) -> dict[str, int]:
    """Run `task` on every shard from 0 to `count` - 1 that `out` does not hold yet and return the summed counts.

    The task writes its files atomically, under names that end in its five-digit number, and returns counts. It must
    be picklable; with one local worker it runs in this process. Every shard is tried before StageFailed names those
    that failed; the task's own UserError comes at once. Finished shards stay.
    """
    waiting = tuple(index for index in range(count) if committed(out, index) is None)
    forget_failures(out, waiting)
    done = count - len(waiting)
    executor = _executor(ShardStep(task, out, what, waiting, count), workers, execution or ShardedConfig())
    with meter(what, total=count, unit="shards", done=done) as shown:
        for _ in executor.finished():
            done += 1
            commit_progress(out, Progress(done, count, "shards"))
            shown.advance()
    counts = {index: committed(out, index, verify=False) for index in range(count)}
    missing = [index for index, found in counts.items() if found is None]
    if missing:
        _raise_failed(executor, what, missing, count)
    total: Counter[str] = Counter()
    for found in counts.values():
        total.update(found or {})
    return dict(total)


def _executor(step: ShardStep, workers: int, execution: ShardedConfig) -> Executor:
    if execution.executor == "slurm":
        from pipelines.corpus.executors.slurm import SlurmShards

        return SlurmShards(step, workers, execution.slurm)
    if execution.executor == "ray":
        from pipelines.corpus.executors.ray import RayShards

        return RayShards(step, workers, execution.ray)
    from pipelines.corpus.executors.local import LocalShards

    return LocalShards(step, workers)


def _raise_failed(executor: Executor, what: str, missing: list[int], count: int) -> None:
    """Raise the user's mistake if one is among the failures, else name the failed shards and the first one's cause."""
    found = [executor.failure(index) for index in missing]
    for failure, error in found:
        if failure.mendable:
            raise UserError(failure.cause) from error
    first, error = found[0]
    others = missing[1 : 1 + NAMED]
    more = f" and {len(missing) - 1 - len(others)} more" if len(missing) > 1 + len(others) else ""
    also = f"; shards {', '.join(map(str, others))}{more} failed too" if others else ""
    stay = f"; {count - len(missing)} are finished and stay" if count > len(missing) else ""
    raise StageFailed(f"{what}: shard {missing[0]} of {count} failed ({first.cause}){also}{stay}") from error
