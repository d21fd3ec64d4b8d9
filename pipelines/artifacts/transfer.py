"""Moves many files at once in bounded memory, with progress, and waits for nobody for ever."""

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

from pipelines.artifacts.progress import meter

T = TypeVar("T")

THREADS = 4
STALL_SECONDS = 120.0
"""A transfer of which nothing moves for so long is given up."""

Moved = Callable[[int], None]


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return what `call` returns or raise what it raises; TimeoutError where it does neither in time.

    The thread that hangs is a daemon: it keeps no process from ending.
    """
    answers: SimpleQueue[tuple[T | None, Exception | None]] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put((call(), None))
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is read
            answers.put((None, error))

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"no answer in {seconds:.0f} s") from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]


def transfer(items: Sequence[str], move: Callable[[str, Moved], None], what: str, total_bytes: int) -> None:
    """Call `move` for every item in a few threads; it says how many bytes it moved, as it goes.

    The first error ends all of them and is raised. Progress is shown by the calling thread, whose log it belongs to.
    """
    waiting: SimpleQueue[str] = SimpleQueue()
    for item in items:
        waiting.put(item)
    news: SimpleQueue[int | Exception | None] = SimpleQueue()
    stop = threading.Event()

    def moved(amount: int) -> None:
        if stop.is_set():
            raise TimeoutError("given up")
        news.put(amount)

    def work() -> None:
        try:
            while not stop.is_set():
                move(waiting.get_nowait(), moved)
        except Empty:
            news.put(None)
        except Exception as error:  # noqa: BLE001 - it is raised by the thread that waits
            news.put(error)

    threads = min(THREADS, len(items))
    for _ in range(threads):
        threading.Thread(target=work, daemon=True).start()
    try:
        with meter(what, total=total_bytes / 2**20, unit="MiB") as counter:
            while threads:
                try:
                    event = news.get(timeout=STALL_SECONDS)
                except Empty:
                    raise TimeoutError(f"nothing moved for {STALL_SECONDS:.0f} s") from None
                if isinstance(event, Exception):
                    raise event
                if event is None:
                    threads -= 1
                else:
                    counter.advance(event / 2**20)
    finally:
        stop.set()
