"""An endpoint that follows `registry/current`: when it moves, the new model takes over, or the old one stays."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from pipelines.artifacts import registry
from pipelines.artifacts.progress import say
from pipelines.artifacts.store import Store
from pipelines.serving.current import Current
from pipelines.serving.served import Served

POLL_SECONDS = 0.5


class Follower:
    """Watches the pointer of a store and keeps an endpoint on the model that it names."""

    def __init__(self, store: Store, current: Current, load: Callable[[Path], Served]) -> None:
        self.store, self.current, self.load = store, current, load
        self._seen: tuple[int, ...] | None = None

    async def run(self) -> None:
        """Follow until cancelled. The pointer is a small file replaced by a rename, so its inode and times tell."""
        while True:
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                await self._follow()
            await asyncio.sleep(POLL_SECONDS)

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            found = registry.pointer_of(self.store).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    async def _follow(self) -> None:
        """Load what the pointer names beside the served model and swap; say once, and stay, where that fails."""
        try:
            named = await run_in_threadpool(registry.current, self.store)
            if named is None or named.digest == self.current.served.digest:
                return
            fresh = await run_in_threadpool(self.load, named.bundle(self.store))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new one, the old one goes on
            cause = str(error).splitlines()[0] if str(error) else type(error).__name__
            say(f"serve: the promoted model cannot be served ({cause}); {_named(self.current.served)} goes on")
            return
        say(f"serve: {_named(fresh)} answers from here on; {_named(self.current.served)} finishes what it has begun")
        await self.current.replace(fresh)


def _named(served: Served) -> str:
    return f"package/{served.key[:12]}" if served.key else served.name
