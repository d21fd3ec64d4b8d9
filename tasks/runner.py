"""A flow run's process ends with the runner that started it, which would else leave it running unseen."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LOOK_SECONDS = 0.5
LEAVE_SECONDS = 5.0
"""To end the stage and report, after which the process is killed."""


@contextmanager
def ended_with_runner() -> Iterator[None]:
    """Stop this process while the block runs when its runner is gone; nothing is watched where no runner started it.

    It stops as at a cancel: the stage saves, and the run is reported as Crashed.
    """
    if "PREFECT__FLOW_RUN_ID" not in os.environ:
        yield
        return
    runner, over = os.getppid(), threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            if os.getppid() != runner:
                os.kill(os.getpid(), signal.SIGTERM)
                threading.Event().wait(LEAVE_SECONDS)
                os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="runner watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()
