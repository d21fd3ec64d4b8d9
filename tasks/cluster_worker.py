"""A stage on a Dask worker ends when its run is gone, which Dask tells the worker and cannot tell a running task."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.artifacts.host import StageHost

LOOK_SECONDS = 0.25


@contextmanager
def ended_with_run(host: StageHost) -> Iterator[None]:
    """Stop what the host builds when the cluster does not want this task any more; elsewhere watch nothing.

    The scheduler lets a task go when the client that wanted it has closed, was killed or is not heard from.
    """
    worker = _worker()
    if worker is None:
        yield
        return
    key, over = worker.get_current_task(), threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            if not _executes(worker, key):
                host.stop()  # again and again, as it may be about to start its child

    threading.Thread(target=watch, name="run watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def still_wanted() -> bool:
    """Say whether the run of this thread's task is there; True of every task that no worker runs."""
    worker = _worker()
    return worker is None or _executes(worker, worker.get_current_task())


def _worker() -> Any:
    """Return the worker that runs this thread's task, if any."""
    distributed = sys.modules.get("distributed")  # an extra: where it is not loaded nothing runs on a worker
    try:
        return distributed.get_worker() if distributed else None
    except ValueError:
        return None


def _executes(worker: Any, key: str) -> bool:
    task = worker.state.tasks.get(key)
    return task is not None and task.state == "executing"
