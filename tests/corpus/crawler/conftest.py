"""What the crawler's tests share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.corpus.crawler.addresses import Lookup, system_lookup
from pipelines.corpus.crawler.crawl import Crawled, crawl
from pipelines.corpus.crawler.sources import CrawlSource


def source(*seeds: str, **fields: Any) -> CrawlSource:
    """A crawl of the loopback interface that waits for nothing."""
    settings: dict[str, Any] = {
        "crawl_id": "test",
        "contact": "tests@example.org",
        "allowed_networks": ("127.0.0.1/32",),
        "min_delay_seconds": 0,
        "first_wait_seconds": 0,
        "timeout_seconds": 5,
    }
    return CrawlSource(seeds=seeds, **{**settings, **fields})


class Result:
    """A finished crawl, with what it says of each URL."""

    def __init__(self, crawled: Crawled, out: Path) -> None:
        self.files, self.counts, self.out = crawled.files, crawled.counts, out
        self.rows = [json.loads(line) for line in (out / "crawl" / "urls.jsonl").read_text().splitlines()]

    def reason(self, url: str) -> str | None:
        """Why the URL was dropped, or None."""
        return next(row["reason"] for row in self.rows if row["url"] == url)

    @property
    def kept(self) -> list[str]:
        return [row["url"] for row in self.rows if row["state"] == "kept"]


@pytest.fixture
def crawling(tmp_path: Path) -> Callable[..., Result]:
    """Run a crawl of these seeds and settings to its end."""

    def run(*seeds: str, lookup: Lookup = system_lookup, out: Path = tmp_path / "out", **fields: Any) -> Result:
        out.mkdir(exist_ok=True)
        return Result(crawl(source(*seeds, **fields), out, lookup), out)

    return run
