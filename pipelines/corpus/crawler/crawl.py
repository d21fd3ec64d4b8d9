"""A crawl from its seeds to WARC files: resumable, polite, within its limits."""

import asyncio
import errno
import json
import os
import sqlite3
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pipelines.artifacts.progress import Meter, meter
from pipelines.artifacts.work import Progress, atomic_file, commit_progress, progress_dir
from pipelines.corpus.crawler.addresses import Guard, Lookup, system_lookup
from pipelines.corpus.crawler.archive import Archive
from pipelines.corpus.crawler.fetching import Fetcher
from pipelines.corpus.crawler.frontier import DONE, DROPPED, Frontier
from pipelines.corpus.crawler.robots import RobotsFiles
from pipelines.corpus.crawler.schedule import Host, Schedule
from pipelines.corpus.crawler.sources import CrawlSource
from pipelines.corpus.crawler.urls import Scope
from pipelines.corpus.crawler.visiting import Visitor

TOKEN = "gristmill"  # noqa: S105 - the product token of robots.txt
COMMIT_SECONDS = 5.0
NOTHING = 2
"""How a crawl ends that reached no page: the network may have been down, so the next run begins anew."""
FAREWELL_SECONDS = 5.0
"""For how long an interrupted crawl waits for the answers that are under way."""


@dataclass(frozen=True)
class Crawled:
    """The files of a finished crawl and what they do not hold."""

    files: list[Path]
    counts: dict[str, int]
    """`in` and `dropped.crawl_REASON` count the URLs that left no response in the files."""


def crawl(source: CrawlSource, out: Path, lookup: Lookup = system_lookup) -> Crawled:
    """Fetch what the source says into `crawl/` of `out`, going on where an earlier attempt was killed.

    Writes `crawl-NNNNN.warc.gz`, and `urls.jsonl` with every URL and what became of it.
    """
    frontier = Frontier(progress_dir(out) / "frontier" / "frontier.sqlite")
    try:
        if frontier.number("finished") == NOTHING:
            frontier.clear()
        archive = Archive(out / "crawl", frontier, source.crawl_id, _about(source), source.file_bytes)
        if not frontier.number("finished"):
            frontier.recover(source.retry_interrupted)
            _run(lambda: Crawl(source, out, frontier, archive, lookup).run())
            archive.sync()
            _write_urls(frontier, out)
            frontier.set_number("finished", 1 if any(pages for pages, _ in frontier.loads().values()) else NOTHING)
        return Crawled(archive.files(), _counts(frontier))
    except sqlite3.OperationalError as error:
        if "disk is full" not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
    finally:
        frontier.close()


def user_agent(source: CrawlSource) -> str:
    """Return what the crawler calls itself, with the way to reach its owner."""
    return f"{TOKEN}/{metadata.version('gristmill')} (+{source.contact})"


class Crawl:
    """One attempt at a crawl."""

    def __init__(self, source: CrawlSource, out: Path, frontier: Frontier, archive: Archive, lookup: Lookup) -> None:
        self.source, self.out, self.frontier, self.archive, self.lookup = source, out, frontier, archive, lookup
        self.schedule = Schedule(source.min_delay_seconds, source.connections_per_host)
        self.scope = Scope(source.seeds, source.allowed_hosts, source.scope)
        self.pages = self.bytes = 0
        for name, (pages, size) in frontier.loads().items():
            host = self.schedule.host(name)
            host.pages, host.bytes = pages, size
            self.pages += pages
            self.bytes += size
            self.schedule.join(name)
        self._shown_at = 0.0

    async def run(self) -> None:
        """Fetch until nothing is left or a limit is reached."""
        source = self.source
        guard = Guard(source.allowed_networks)
        async with Fetcher(user_agent(source), source.timeout_seconds, guard, self.lookup) as fetcher:
            robots = RobotsFiles(fetcher, self.frontier, TOKEN, self.schedule.turn, source.retries)
            visitor = Visitor(source, self.frontier, self.archive, self.schedule, fetcher, robots, self.scope, TOKEN)
            visitor.add_seeds()
            with meter("crawl", total=source.max_pages, unit="pages", done=self.pages) as shown:
                await self._drive(visitor, shown)

    async def _drive(self, visitor: Visitor, shown: Meter) -> None:
        running: dict[asyncio.Task[tuple[int, int]], Host] = {}
        started, before = time.monotonic(), self.pages
        try:
            while True:
                self._send_out(visitor, running)
                wait = self.schedule.wait_seconds()
                if not running and (wait is None or self._is_full(0)):
                    return
                if running:
                    may_start = len(running) < self.source.connections and not self._is_full(len(running))
                    await asyncio.wait(running, timeout=wait if may_start else None, return_when="FIRST_COMPLETED")
                else:
                    await asyncio.sleep(wait or 0)
                for task in [task for task in running if task.done()]:
                    pages = self._take_back(task, running.pop(task))
                    rate = (self.pages - before) / max(time.monotonic() - started, 1e-6)
                    shown.advance(pages, pages_per_second=rate, megabytes=self.bytes / 1e6, known=self.frontier.known)
                self._commit()
        finally:
            if running:
                await asyncio.wait(running, timeout=FAREWELL_SECONDS)
                for task in running:
                    task.cancel()

    def _send_out(self, visitor: Visitor, running: dict[asyncio.Task[tuple[int, int]], Host]) -> None:
        """Begin as many visits as limits and delays allow."""
        while len(running) < self.source.connections and not self._is_full(len(running)):
            host = self.schedule.ready()
            if host is None:
                return
            if host.pages + host.active >= self.source.max_pages_per_host:
                continue  # it comes back when a visit under way has ended without a page
            if host.bytes >= self.source.max_bytes_per_host:
                continue
            visit = self.frontier.claim(host.name, time.time())
            if visit is not None:
                host.active += 1
                running[asyncio.create_task(visitor.visit(visit))] = host
            self._stand_in_line(host)

    def _stand_in_line(self, host: Host) -> None:
        due = self.frontier.next_time(host.name)
        if due is not None:
            self.schedule.join(host.name, time.monotonic() + due - time.time() if due else 0.0)

    def _take_back(self, task: asyncio.Task[tuple[int, int]], host: Host) -> int:
        """Count a visit that has ended; return the pages that it gave."""
        pages, size = task.result()
        host.active -= 1
        host.pages += pages
        host.bytes += size
        self.pages += pages
        self.bytes += size
        self._stand_in_line(host)
        return pages

    def _is_full(self, under_way: int) -> bool:
        return self.pages + under_way >= self.source.max_pages or self.bytes >= self.source.max_bytes

    def _commit(self) -> None:
        if time.monotonic() - self._shown_at > COMMIT_SECONDS and self.pages:
            self._shown_at = time.monotonic()
            commit_progress(self.out, Progress(self.pages, self.source.max_pages, "pages"))


def _about(source: CrawlSource) -> dict[str, str]:
    return {"software": user_agent(source).partition(" ")[0], "operator": source.contact} | {
        "http-header-user-agent": user_agent(source)
    }


def _run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the crawl in an event loop of its own: in this thread, or beside a loop that a notebook runs here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(main())
        return
    context = copy_context()
    with ThreadPoolExecutor(1, "crawl") as thread:
        thread.submit(context.run, lambda: asyncio.run(main())).result()


def _write_urls(frontier: Frontier, out: Path) -> None:
    names = {DONE: "kept", DROPPED: "dropped"}
    with atomic_file(out / "crawl" / "urls.jsonl", out) as fresh, fresh.open("w") as file:
        for row in frontier.rows():
            row["state"] = names.get(int(row["state"] or 0), "left")
            file.write(json.dumps(row) + "\n")


def _counts(frontier: Frontier) -> dict[str, int]:
    drops = {f"dropped.crawl_{reason}": count for reason, count in frontier.drops().items()}
    loads = frontier.loads().values()
    return drops | {
        "in": sum(drops.values()),
        "crawl_pages": sum(pages for pages, _ in loads),
        "crawl_bytes": sum(size for _, size in loads),
        "crawl_urls_left": frontier.left(),
        **{f"crawl_links_{name}": frontier.number(f"links_{name}") for name in ("bad", "out_of_scope", "over_limit")},
    }
