"""Whose turn it is: no host is asked more often, or by more requests at a time, than it should be."""

import asyncio
import heapq
import time
from dataclasses import dataclass


@dataclass
class Host:
    """What a crawl knows of one host."""

    name: str
    delay_seconds: float
    next_at: float = 0.0
    """When its next request may start, by the monotonic clock."""
    active: int = 0
    pages: int = 0
    bytes: int = 0
    in_line: bool = False


class Schedule:
    """The hosts that have URLs waiting, by the time at which they may be asked again."""

    def __init__(self, delay_seconds: float, connections_per_host: int) -> None:
        self.delay_seconds, self.connections_per_host = delay_seconds, connections_per_host
        self.hosts: dict[str, Host] = {}
        self._line: list[tuple[float, str]] = []

    def host(self, name: str) -> Host:
        """Return the host, known from now on."""
        return self.hosts.setdefault(name, Host(name, self.delay_seconds))

    def join(self, name: str, not_before: float = 0.0) -> None:
        """Put a host that has URLs waiting in the line, unless it stands there or is busy."""
        host = self.host(name)
        if not host.in_line and host.active < self.connections_per_host:
            host.in_line = True
            heapq.heappush(self._line, (max(host.next_at, not_before), name))

    def ready(self) -> Host | None:
        """Take the host that has waited longest out of the line, if its time has come."""
        if not self._line or self._line[0][0] > time.monotonic():
            return None
        host = self.hosts[heapq.heappop(self._line)[1]]
        host.in_line = False
        return host

    def wait_seconds(self) -> float | None:
        """Return how long until a host is ready; None where none stands in the line."""
        return max(self._line[0][0] - time.monotonic(), 0.0) if self._line else None

    async def turn(self, name: str) -> None:
        """Return when a request to the host may start; each call takes one turn."""
        host = self.host(name)
        now = time.monotonic()
        at = max(now, host.next_at)
        host.next_at = at + host.delay_seconds
        await asyncio.sleep(at - now)

    def ask_slower(self, name: str, delay_seconds: float) -> None:
        """Keep at least this delay between two requests to the host from now on."""
        host = self.host(name)
        if delay_seconds > host.delay_seconds:
            host.next_at += delay_seconds - host.delay_seconds
            host.delay_seconds = delay_seconds

    def leave_alone(self, name: str, seconds: float) -> None:
        """Send the host nothing for so long."""
        host = self.host(name)
        host.next_at = max(host.next_at, time.monotonic() + seconds)
