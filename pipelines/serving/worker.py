"""One generation at a time, in a thread of its own, behind a queue of bounded length."""

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from pipelines.serving.engine import Cancelled, Engine, Piece, Sampling

logger = logging.getLogger(__name__)

Event: TypeAlias = Piece | BaseException | None
"""What a worker tells a request: a piece of text, why it failed, or that it is done."""


class Busy(Exception):
    """The queue is full; `seconds` is when to try again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the queue is full; try again in {seconds} s")
        self.seconds = seconds


class Stopping(Exception):
    """The server is shutting down and takes no more work."""


@dataclass(eq=False)
class Job:
    """One request's way through the worker."""

    prompt: Sequence[int]
    sampling: Sampling
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def tell(self, event: Event) -> None:
        """Hand an event to the request's event loop; a loop that is closed has nobody left to tell."""
        try:
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)
        except RuntimeError:
            self.cancelled.set()

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield the pieces as they come; leaving early, for whatever reason, cancels the generation."""
        try:
            while (event := await self.events.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            self.cancelled.set()


class Worker:
    """The thread that runs an engine; at most `places` requests wait or run."""

    def __init__(self, engine: Engine, places: int) -> None:
        self.engine, self.places = engine, places
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._taken = 0
        self._lock = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="generation", daemon=True)
        self._thread.start()

    @property
    def taken(self) -> int:
        """How many requests wait or run."""
        return self._taken

    def submit(self, prompt: Sequence[int], sampling: Sampling) -> Job:
        """Queue a completion; raise Busy where all places are taken. Called from the request's event loop."""
        job = Job(prompt, sampling, asyncio.get_running_loop())
        with self._lock:
            if self._stopping:
                raise Stopping
            if self._taken >= self.places:
                raise Busy(seconds=max(1, self._taken))
            self._taken += 1
        self._waiting.put(job)
        return job

    def stop(self) -> None:
        """Finish what was queued and end the thread."""
        with self._lock:
            self._stopping = True
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            end: Event = None
            try:
                for piece in self.engine.complete(job.prompt, job.sampling, job.cancelled):
                    job.tell(piece)
            except Cancelled:
                logger.info("a client left; its generation was cancelled")
            except Exception as error:  # one request's failure must not end the thread
                logger.exception("a generation failed")
                end = error
            with self._lock:
                self._taken -= 1
            job.tell(end)
