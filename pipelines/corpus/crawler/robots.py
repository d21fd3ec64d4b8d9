"""What a site's robots.txt allows, by RFC 9309: no answer means no, and "there is none" means yes."""

import asyncio
import re
import time
import zlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from protego import Protego

from pipelines.corpus.crawler.fetching import Answer, Failure, Fetcher
from pipelines.corpus.crawler.frontier import Frontier
from pipelines.corpus.crawler.urls import BadUrl, host_of, normalised

MAX_BYTES = 500 * 1024
"""What a crawler has to read of a robots.txt at least (RFC 9309, 2.5); we read no more."""
MAX_REDIRECTS = 5
MAX_AGE_SECONDS = 24 * 3600
IN_MEMORY = 256
AGENT_LINE = re.compile(r"^[ \t]*user[- \t]*agent[ \t]*[: \t][ \t]*([^#\n]*)", re.IGNORECASE | re.MULTILINE)
REFUSED, PRIVATE, ALLOWED, RULES = "robots_unreachable", "private_address", "allowed", "rules"
"""The verdicts on an origin; the first two are the reasons why nothing of it is fetched."""


@dataclass(frozen=True)
class Robots:
    """What one origin allows."""

    verdict: str
    rules: Protego | None = None
    delay_seconds: float = 0.0

    def reason_against(self, url: str, token: str) -> str | None:
        """Return why the URL must not be fetched, or None where it may be."""
        if self.verdict in (REFUSED, PRIVATE):
            return self.verdict
        return "robots" if self.rules is not None and not self.rules.can_fetch(url, token) else None


class RobotsFiles:
    """The robots.txt of every origin of a crawl, fetched once in 24 hours and kept in the frontier."""

    def __init__(
        self, fetcher: Fetcher, frontier: Frontier, token: str, turn: Callable[[str], Awaitable[None]], retries: int
    ) -> None:
        self.fetcher, self.frontier, self.token, self.turn, self.retries = fetcher, frontier, token, turn, retries
        self._held: OrderedDict[str, tuple[float, Robots]] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}

    async def of(self, origin: str) -> Robots:
        """Return what the origin allows, from memory, from the frontier or from the site."""
        async with self._locks.setdefault(origin, asyncio.Lock()):
            known = self._held.pop(origin, None)
            if known is None or time.time() - known[0] > MAX_AGE_SECONDS:
                known = await self._current(origin)
            self._held[origin] = known
            while len(self._held) > IN_MEMORY:
                self._held.popitem(last=False)
            return known[1]

    async def _current(self, origin: str) -> tuple[float, Robots]:
        stored = self.frontier.robots(origin)
        if stored is None or not 0 <= time.time() - stored[0] <= MAX_AGE_SECONDS:
            verdict, text = await self._fetched(origin)
            stored = (time.time(), verdict, text)
            self.frontier.keep_robots(origin, *stored)
        at, verdict, text = stored
        return at, parsed(text, self.token) if verdict == RULES else Robots(verdict)

    async def _fetched(self, origin: str) -> tuple[str, str]:
        url = f"{origin}/robots.txt"
        for hop in range(MAX_REDIRECTS + 1):
            answer = await self._answer(url)
            if isinstance(answer, str):
                return (PRIVATE if answer == PRIVATE and hop == 0 else REFUSED), ""
            location = answer.header("Location")
            if 300 <= answer.status < 400 and location:
                try:
                    url = normalised(location, base=url)
                except BadUrl:
                    return REFUSED, ""
            elif answer.status == 200:
                body = _plain(answer)
                return (REFUSED, "") if body is None else (RULES, body.decode("utf-8-sig", "replace"))
            else:
                return (ALLOWED if 400 <= answer.status < 500 and answer.status != 429 else REFUSED), ""
        return REFUSED, ""  # the RFC leaves more redirects to the crawler; a loop is a site out of order

    async def _answer(self, url: str) -> Answer | str:
        """Return the answer to a robots.txt, or why the site gives none at any try."""
        reason = "server_error"
        for _ in range(self.retries + 1):
            await self.turn(host_of(url))
            try:
                answer = await self.fetcher.get(url, MAX_BYTES, cut=True, encoding="identity")
            except Failure as failure:
                reason = failure.reason
                if not failure.again:
                    break
                continue
            if answer.status < 500 and answer.status != 429:
                return answer
        return reason


def _plain(answer: Answer) -> bytes | None:
    """Return the body without a compression that was not asked for; None where it cannot be read."""
    encoding = answer.header("Content-Encoding").strip().lower()
    if encoding in ("", "identity"):
        return answer.body
    try:
        return zlib.decompressobj(wbits=47).decompress(answer.body, MAX_BYTES) if "gzip" in encoding else None
    except zlib.error:
        return None


def parsed(text: str, token: str) -> Robots:
    """Return the rules of a robots.txt for the crawler called `token`."""
    rules = Protego.parse(_without_other_agents(text, token))
    delay = rules.crawl_delay(token) or 0.0
    rate = rules.request_rate(token)
    return Robots(RULES, rules, max(delay, rate.seconds / rate.requests if rate else 0.0))


def _without_other_agents(text: str, token: str) -> str:
    """Return the text with every agent that is not ours under one name.

    Protego keeps each rule once for each agent of its group: 17,000 agents over 17,000 rules would fill the memory.
    """

    def one_name(found: re.Match[str]) -> str:
        name = found[1].strip().lower().replace("*", "")
        return found[0] if not name or name in token.lower() else "User-agent: -"

    return AGENT_LINE.sub(one_name, "\n".join(text.splitlines()))
