"""The next batches, read in a background thread while the model computes."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")

AHEAD = 2
"""Batches held beside the one in use: one hides a slow read, the second what varies."""


class Prefetched(Generic[T]):
    """Calls `read` for the numbers after the one that is asked for, so that they are there when their turn comes.

    What comes back is what `read` returns: asked for out of order, it is read at that moment. An error of `read` is
    raised where its number is asked for, and nowhere else. The thread ends with this object.
    """

    def __init__(self, read: Callable[[int], T]) -> None:
        self.read = read
        self._ahead: deque[tuple[int, Future[T]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")

    def __call__(self, number: int) -> T:
        """Return `read(number)` and have the next ones read."""
        if not self._ahead or self._ahead[0][0] != number:
            self.forget()
        while len(self._ahead) <= AHEAD:
            following = number + len(self._ahead)
            self._ahead.append((following, self._thread.submit(self.read, following)))
        return self._ahead.popleft()[1].result()

    def forget(self) -> None:
        """Drop what was read ahead."""
        for _, waiting in self._ahead:
            waiting.cancel()
        self._ahead.clear()

    def close(self) -> None:
        """End the thread once what it reads is read."""
        self.forget()
        self._thread.shutdown()
