"""Stopping at SIGTERM with the work saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopRequest:
    """Whether the process was asked to stop."""

    made: bool = False


@contextmanager
def stop_on_sigterm() -> Iterator[StopRequest]:
    """Yield what SIGTERM sets; after the block the signal does what it would have done without it.

    Only the main thread can listen; in another one the request is never made and a checkpoint is what is left.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:
        request.made = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before)
        if request.made:
            signal.raise_signal(signal.SIGTERM)
