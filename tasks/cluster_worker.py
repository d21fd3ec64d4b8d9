"""A stage on a Dask worker ends when its run is gone, which Dask tells the worker and cannot tell a running task."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.artifacts.host import StageHost

LOOK_SECONDS = 0.25


@contextmanager
def ended_with_run(host: StageHost) -> Iterator[None]:
    """Stop what the host builds when the cluster does not want this task any more; elsewhere watch nothing.

    The scheduler lets a task go when the client that wanted it has closed, was killed or is not heard from.
    """
    distributed = sys.modules.get("distributed")  # an extra: where it is not loaded nothing runs on a worker
    try:
        worker = distributed.get_worker() if distributed else None
    except ValueError:
        worker = None
    if worker is None:
        yield
        return
    key, over = worker.get_current_task(), threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            task = worker.state.tasks.get(key)
            if task is None or task.state != "executing":
                host.stop()  # again and again, as it may be about to start its child

    threading.Thread(target=watch, name="run watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()
