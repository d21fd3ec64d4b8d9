"""A crawl that is killed goes on where it was: no page is fetched twice, and no record is half or twice there."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from pipelines.corpus.crawler.crawl import crawl
from pipelines.corpus.crawler.frontier import Frontier
from pipelines.corpus.crawler.sources import CrawlSource
from pipelines.corpus.intake import ORDINARY
from pipelines.corpus.readers.crawl_pages import crawl_pages
from pipelines.corpus.readers.records import Limits, Record
from tests.corpus.crawler.conftest import Result, source
from tests.corpus.crawler.site import Handler, Reply, Site, html, serving

ROOT = Path(__file__).resolve().parents[3]
RUN = """
import os, signal, sys
from pathlib import Path
from pipelines.corpus.crawler import archive, frontier
from pipelines.corpus.crawler.crawl import crawl
from pipelines.corpus.crawler.sources import CrawlSource
{fault}
crawl(CrawlSource.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
"""
FAULT = """
calls = 0
whole = archive.Archive.{method}
def faulty(*args):
    global calls
    calls += 1
    if calls == {call}:
        {before}
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*args)
archive.Archive.{method} = {kind}(faulty)
"""
SYNC = "archive.UNSYNCED_BYTES = 0"
HALF = "path, offset, data = args; whole(path, offset, data[:len(data) // 2])"
FAULTS = {
    "before a record is written": FAULT.format(method="_write", call=5, before="pass", kind="staticmethod"),
    "while a record is written": FAULT.format(method="_write", call=5, before=HALF, kind="staticmethod"),
    "after a record is written": FAULT.format(method="_write", call=5, before="whole(*args)", kind="staticmethod"),
    "while a warcinfo is written": FAULT.format(method="_write", call=1, before=HALF, kind="staticmethod"),
    "before a file is synced": SYNC + FAULT.format(method="sync", call=5, before="pass", kind=""),
    "after a file is synced": SYNC + FAULT.format(method="sync", call=5, before="whole(*args)", kind=""),
    "while a new file begins": FAULT.format(method="append", call=10, before="pass", kind=""),
    "before a page is marked": FAULT.format(method="reserve", call=5, before="pass", kind=""),
    "while a page is marked": FAULT.format(method="reserve", call=5, before="whole(*args)", kind=""),
}


def pages(count: int) -> dict[str, Reply]:
    """A site of pages in a tree: `/` links to three pages, and each of these to three more."""
    tree = {f"/{n}": Reply(html(*(f"/{m}" for m in range(3 * n + 1, 3 * n + 4) if m < count))) for n in range(1, count)}
    return {"/": Reply(html("/1", "/2", "/3")), **tree}


def start(config: CrawlSource, out: Path, fault: str = "") -> subprocess.Popen[bytes]:
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-c", RUN.format(fault=fault), config.model_dump_json(), str(out)]
    return subprocess.Popen(command, cwd=ROOT)


def records(result: Result) -> Counter[str]:
    """The pages in the crawl's files; nothing in them is damaged."""
    found: Counter[str] = Counter()
    for path in result.files:
        for item in crawl_pages(path, Limits(record=10**7, page=10**7)):
            assert isinstance(item, Record) or item.reason in ORDINARY, item
            if isinstance(item, Record):
                found[item.url] += 1
    return found


def resumed(site: Site, config: CrawlSource, out: Path) -> Result:
    """Run the rest of a killed crawl here and check what holds after every kill."""
    result = Result(crawl(config, out), out)
    assert max(site.times().values()) == 1, "a page was fetched twice"
    assert records(result) == Counter(result.kept)
    return result


@pytest.mark.parametrize("moment", FAULTS)
def test_a_kill_at_the_worst_moment_loses_no_record_and_doubles_none(tmp_path: Path, moment: str) -> None:
    with serving(pages(16)) as site:
        config = source(site.url(), file_bytes=10_000)
        assert start(config, tmp_path, FAULTS[moment]).wait() == -signal.SIGKILL
        result = resumed(site, config, tmp_path)
    lost = result.counts.get("dropped.crawl_interrupted", 0)
    assert lost == (1 if moment in ("before a page is marked", "while a page is marked") else 0)
    if not lost:
        assert result.counts["crawl_pages"] == 16


def test_three_kills_in_the_middle_of_a_crawl_cost_no_page_a_second_request(tmp_path: Path) -> None:
    with serving(pages(120), delay=0.02) as site:
        config = source(site.url(), connections_per_host=3, max_depth=9)
        for seen in (20, 45, 70):
            child = start(config, tmp_path)
            deadline = time.monotonic() + 60
            while len(site.asked) < seen:
                assert time.monotonic() < deadline
                assert child.poll() is None
                time.sleep(0.002)
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        result = resumed(site, config, tmp_path)
    interrupted = [row["url"] for row in result.rows if row["reason"] == "interrupted"]
    assert len(interrupted) <= 3 * 3, "no more than were under way"
    asked = {site.url(path) for path in site.asked if path != "/robots.txt"}
    assert set(result.kept) <= asked <= {*result.kept, *interrupted}
    assert result.counts["crawl_pages"] >= 60
    assert result.counts["in"] == len(interrupted)


@pytest.mark.parametrize(("path", "again", "times"), [("/slow", False, 1), ("/slow", True, 2), ("/", False, 2)])
def test_a_page_under_way_at_a_kill_is_asked_for_again_where_that_is_allowed_or_it_is_the_seed(
    tmp_path: Path, path: str, again: bool, times: int
) -> None:
    hangs = threading.Event()

    def slow(handler: Handler) -> None:
        if not hangs.is_set():
            hangs.set()
            time.sleep(5)
        else:
            Reply(html("/other"))(handler)

    with serving({"/": Reply(html("/slow", "/other")), "/other": Reply(html()), path: slow}) as site:
        config = source(site.url(), retry_interrupted=again, timeout_seconds=60)
        child = start(config, tmp_path)
        assert hangs.wait(60)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        result = Result(crawl(config, tmp_path), tmp_path)
    assert site.times()[path] == times
    assert (result.reason(site.url(path)) == "interrupted") == (times == 1)
    assert site.times()["/robots.txt"] == 1, "robots.txt is kept for a day"


def test_what_the_frontier_does_not_know_is_cut_off(tmp_path: Path) -> None:
    with serving(pages(6)) as site:
        config = source(site.url(), max_pages=3)
        result = Result(crawl(config, tmp_path), tmp_path)
        (file,) = result.files
        whole = file.read_bytes()
        frontier = Frontier(tmp_path / ".progress" / "frontier" / "frontier.sqlite")
        frontier.set_number("finished", 0)
        frontier.close()
        file.write_bytes(whole + whole[-100:])
        assert crawl(config, tmp_path).files[0].read_bytes() == whole


def test_a_crawl_that_reached_no_page_begins_anew(tmp_path: Path) -> None:
    with serving(pages(3)) as site:
        site.pages["/robots.txt"] = Reply(b"", 503)
        config = source(site.url())
        assert crawl(config, tmp_path).counts["crawl_pages"] == 0
        site.pages["/robots.txt"] = Reply(b"", 404)
        assert crawl(config, tmp_path).counts["crawl_pages"] == 4


def test_robots_older_than_a_day_are_asked_for_again(tmp_path: Path) -> None:
    with serving(pages(3)) as site:
        config = source(site.url(), max_pages=1)
        crawl(config, tmp_path)
        frontier = Frontier(tmp_path / ".progress" / "frontier" / "frontier.sqlite")
        frontier.set_number("finished", 0)
        frontier.db.execute("UPDATE robots SET fetched_at = fetched_at - 90000")
        frontier.close()
        crawl(config.model_copy(update={"max_pages": 9}), tmp_path)
    assert site.times()["/robots.txt"] == 2


def test_a_crawl_shows_how_far_it_has_come(tmp_path: Path) -> None:
    from pipelines.artifacts.work import read_progress

    with serving(pages(6)) as site:
        crawl(source(site.url()), tmp_path)
    progress = read_progress(tmp_path)
    assert progress is not None
    assert (progress.unit, progress.total) == ("pages", 1000)
