"""One URL of a crawl: asked for in its turn, kept with its links, or given up for a counted reason."""

import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from pipelines.corpus.crawler.archive import Archive, response_block
from pipelines.corpus.crawler.fetching import TRY_AGAIN, Answer, Failure, Fetcher
from pipelines.corpus.crawler.frontier import Frontier, Visit
from pipelines.corpus.crawler.links import Links, header_rules, links_of
from pipelines.corpus.crawler.robots import RobotsFiles
from pipelines.corpus.crawler.schedule import Schedule
from pipelines.corpus.crawler.sources import CrawlSource
from pipelines.corpus.crawler.urls import BadUrl, Scope, host_of, normalised, origin_of
from pipelines.corpus.readers.http_page import page_of
from pipelines.corpus.readers.records import Limits, Record
from pipelines.corpus.readers.warc import RawRecord

MAX_WAIT_SECONDS = 300.0
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Visitor:
    """Fetches URLs one by one for a crawl."""

    def __init__(
        self,
        source: CrawlSource,
        frontier: Frontier,
        archive: Archive,
        schedule: Schedule,
        fetcher: Fetcher,
        robots: RobotsFiles,
        scope: Scope,
        token: str,
    ) -> None:
        self.source, self.frontier, self.archive, self.schedule = source, frontier, archive, schedule
        self.fetcher, self.robots, self.scope, self.token = fetcher, robots, scope, token

    def add_seeds(self) -> None:
        """Queue the seeds that are not known yet."""
        with self.frontier.transaction():
            added = self._added(self.source.seeds, depth=0, hops=0, via="")
        for host in added:
            self.schedule.join(host)

    async def visit(self, visit: Visit) -> tuple[int, int]:
        """Fetch the URL; return how many responses were kept (0 or 1) and how many bytes were read."""
        robots = await self.robots.of(origin_of(visit.url))
        self.schedule.ask_slower(visit.host, min(robots.delay_seconds, self.source.max_delay_seconds))
        against = robots.reason_against(visit.url, self.token)
        if against is None and robots.delay_seconds > self.source.max_delay_seconds:
            against = "long_delay"
        if against is not None:
            self.frontier.drop(visit, against)
            return 0, 0
        await self.schedule.turn(visit.host)
        self.frontier.asked(visit)
        try:
            answer = await self.fetcher.get(visit.url, self.source.max_body_bytes, self.source.content_types)
        except Failure as failure:
            if not (failure.again and self._again(visit)):
                self.frontier.drop(visit, failure.reason)
            return 0, 0
        if answer.status in TRY_AGAIN and self._again(visit, answer.wait_seconds()):
            return 0, 0
        return self._keep(visit, answer), len(answer.body)

    def _again(self, visit: Visit, asked_seconds: float = 0.0) -> bool:
        """Queue the URL for a later try, if it has one left."""
        if visit.tries >= self.source.retries:
            return False
        longest = self.source.max_delay_seconds
        if asked_seconds:
            self.schedule.leave_alone(visit.host, min(asked_seconds, longest))
        wait = min(self.source.first_wait_seconds * 2**visit.tries, MAX_WAIT_SECONDS)
        wait *= random.uniform(0.5, 1)  # noqa: S311 - so that many crawlers do not come back at one moment
        self.frontier.requeue(visit, time.time() + max(wait, min(asked_seconds, longest)))
        return True

    def _keep(self, visit: Visit, answer: Answer) -> int:
        """Store the response and what it leads to, in one transaction; return 0 for a page that is not to be kept."""
        links = self._links(answer)
        if links.noindex:
            with self.frontier.transaction():
                self.frontier.drop(visit, "noindex", len(answer.body), answer.status)
                hosts = self._found(visit, answer, links)
        else:
            data = self.archive.page(visit, answer)
            with self.frontier.transaction():
                file, offset = self.archive.reserve(data)
                self.frontier.done(visit, answer.status, len(answer.body), file, offset)
                hosts = self._found(visit, answer, links)
            self.archive.append()
        for host in hosts:
            self.schedule.join(host)
        return 0 if links.noindex else 1

    def _links(self, answer: Answer) -> Links:
        """Return the links of the page as the reader of the archive will see it."""
        header = answer.header("X-Robots-Tag").lower()
        block = response_block(answer)
        raw = RawRecord(0, _warc_header(answer.url, len(block)) + block)
        size = self.source.max_body_bytes
        page = page_of(raw, Limits(record=2 * size, page=size), set()) if answer.status == 200 else None
        if not isinstance(page, Record):
            return Links(noindex=answer.status == 200 and bool({"noindex", "none"} & header_rules(header, self.token)))
        return links_of(page.content, answer.url, self.token, header, self.source.max_links_per_page)

    def _found(self, visit: Visit, answer: Answer, links: Links) -> list[str]:
        """Queue what the response leads to; return the hosts that have new URLs."""
        target = answer.header("Location")
        if answer.status in REDIRECTS and target:
            return self._redirected(visit, answer.url, target)
        self.frontier.count("links_bad", links.bad)
        self.frontier.count("links_over_limit", links.over)
        if visit.depth >= self.source.max_depth:
            return []
        inside = [url for url in links.urls if self.scope.covers(url)]
        self.frontier.count("links_out_of_scope", len(links.urls) - len(inside))
        return self._added(inside, visit.depth + 1, 0, answer.url)

    def _redirected(self, visit: Visit, url: str, target: str) -> list[str]:
        """Queue a redirect's target like a link of the same depth, or note why it is not followed."""
        hops = visit.hops + 1
        try:
            target = normalised(target, url)
        except BadUrl as error:
            self.frontier.add_dropped(error.url, visit.depth, hops, url, f"redirect_{error.reason}")
            return []
        if hops > self.source.max_redirects:
            self.frontier.add_dropped(target, visit.depth, hops, url, "too_many_redirects")
        elif not self.scope.covers(target):
            self.frontier.add_dropped(target, visit.depth, hops, url, "redirect_out_of_scope")
        else:
            return self._added([target], visit.depth, hops, url)
        return []

    def _added(self, urls: Iterable[str], depth: int, hops: int, via: str) -> list[str]:
        """Queue those of the URLs that the limits leave room for; return the hosts of the new ones."""
        refused: Counter[str] = Counter()
        added = self.frontier.add(self._within_limits(urls, refused), depth, hops, via)
        self.frontier.count("links_over_limit", refused["over"])
        return added

    def _within_limits(self, urls: Iterable[str], refused: Counter[str]) -> Iterator[tuple[str, str]]:
        room = self.source.max_urls - self.frontier.known
        for url in urls:
            host = host_of(url)
            new_host = host not in self.schedule.hosts
            if room <= 0 or (new_host and len(self.schedule.hosts) >= self.source.max_hosts):
                refused["over"] += 1
                continue
            room -= 1
            self.schedule.host(host)
            yield url, host


def _warc_header(url: str, length: int) -> bytes:
    lines = ["WARC/1.1", "WARC-Type: response", "WARC-Record-ID: <urn:x>", f"WARC-Target-URI: {url}"]
    lines += ["Content-Type: application/http;msgtype=response", f"Content-Length: {length}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
