"""Which model answers now, and how it gives its place to another while requests run."""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from starlette.concurrency import run_in_threadpool

from pipelines.serving.served import Served


class Current:
    """The model that answers. All of it runs in the event loop, so that a swap falls between two requests.

    A request leases the model from the moment that it reads its name until its completion is queued; the one that is
    replaced is stopped when no lease is left, and stopping finishes what is queued. So each request is answered whole
    by one model, and at most two are in memory: a third is loaded only when the first is freed.
    """

    def __init__(self, served: Served) -> None:
        self.served = served
        self._leases: Counter[Served] = Counter()
        self._ended: asyncio.Event = asyncio.Event()
        self._retired: Served | None = None

    @property
    def requests(self) -> int:
        """How many requests wait or run, those of a model that is being replaced too."""
        return self.served.worker.taken + (self._retired.worker.taken if self._retired else 0)

    @contextmanager
    def lease(self) -> Iterator[Served]:
        """Yield the model, which will take requests at least until the block ends."""
        served = self.served
        self._leases[served] += 1
        try:
            yield served
        finally:
            self._leases[served] -= 1
            self._ended.set()

    async def replace(self, fresh: Served) -> None:
        """Let `fresh` answer from here on; return when the other has answered all that it took, and is freed."""
        self._retired, self.served = self.served, fresh
        await self._retire(self._retired)
        self._retired = None
        gc.collect()  # a model is full of cycles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    async def end(self) -> None:
        """Finish the queued requests, of a model that is being replaced too."""
        for served in (self._retired, self.served):
            if served:
                await self._retire(served)

    async def _retire(self, served: Served) -> None:
        while self._leases[served]:
            self._ended.clear()
            await self._ended.wait()
        del self._leases[served]
        await run_in_threadpool(served.worker.stop)
