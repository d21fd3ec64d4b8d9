"""Slow and broken servers: every answer that is none has a name, and no server can hold a crawl or fill its memory."""

import gzip
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.corpus.crawler.conftest import Result
from tests.corpus.crawler.site import Handler, Reply, endless, html, raw, redirect, serving

Crawling = Callable[..., Result]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"


def drip(handler: Handler) -> None:
    """Send a header that never ends, a byte at a time."""
    handler.wfile.write(OK)
    while True:
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("page", "reason", "tries"),
    [
        (drip, "timeout", 2),
        (raw(OK + b"Content-Length: 5\r\n\r\n", b"a", pause=4), "timeout", 2),
        (raw(OK + b"Content-Length: 5000\r\n\r\n<p>short"), "broken", 2),
        (raw(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n"), "broken", 2),
        (raw(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel"), "broken", 2),
        (raw(b"", reset=True), "broken", 2),
        (raw(OK + b"Content-Length: 500\r\n\r\n<p>", reset=True), "broken", 2),
        (raw(b"no HTTP at all\r\n\r\n"), "broken", 2),
        (raw(OK + b"Content-Length: -5\r\n\r\nhello"), "broken", 2),
        (raw(OK + b"X: " + b"y" * 100_000 + b"\r\n\r\nhello"), "broken", 2),
        (raw(OK + b"X-A: b\r\n" * 100_000 + b"\r\nhello"), "broken", 2),
        (endless(), "too_large", 1),
        (raw(OK + b"Content-Length: 1000000000000000\r\n\r\n<p>"), "too_large", 1),
        (endless("video/mp4"), "content_type", 1),
    ],
    ids=str,
)
def test_an_answer_that_is_none_is_counted_by_its_reason(
    crawling: Crawling, page: Callable[[Handler], None], reason: str, tries: int
) -> None:
    with serving({"/": Reply(html("/bad", "/good")), "/bad": page, "/good": Reply(html())}) as site:
        result = crawling(site.url(), timeout_seconds=2, retries=1, max_body_bytes=100_000)
    assert result.reason(site.url("/bad")) == reason
    assert site.times()["/bad"] == tries
    assert result.counts["crawl_pages"] == 2
    assert result.counts["in"] == 1


def test_a_server_that_is_not_there_and_a_name_without_address_are_counted(crawling: Crawling) -> None:
    async def lookup(host: str, port: int) -> list[str]:
        if host == "gone.example":
            raise OSError("no such host")
        return ["127.0.0.1"]

    with serving({}) as site:
        pass  # the port is free again
    result = crawling(site.url(), "http://gone.example/", lookup=lookup, retries=0)
    assert result.counts["dropped.crawl_robots_unreachable"] == 2


def test_a_body_longer_than_its_length_is_no_whole_answer(crawling: Crawling) -> None:
    body = html(title="Right")
    page = raw(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body + b"and much more")
    with serving({"/": page}) as site:
        result = crawling(site.url(), retries=0)
    # Which of the two depends on whether the rest comes in one packet with the body.
    assert result.reason(site.url()) == "broken" or result.counts["crawl_bytes"] == len(body)


def test_a_gzip_bomb_costs_a_record_and_no_memory(crawling: Crawling) -> None:
    bomb = gzip.compress(b"<a href='/x'>boom</a>" * 2_500_000, 9)
    with serving({"/": Reply(bomb, headers={"Content-Encoding": "gzip"})}) as site:
        tracemalloc.start()
        result = crawling(site.url(), max_body_bytes=1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(bomb) < 1_000_000
    assert peak < 20_000_000
    assert result.counts["crawl_pages"] == 1
    assert len(result.rows) == 1


def test_a_server_out_of_order_for_a_while_is_asked_again_when_it_says(crawling: Crawling) -> None:
    answers = iter([Reply(b"", 503, {"Retry-After": "1"}), Reply(b"", 429), Reply(html(title="At last"))])
    with serving({"/": lambda handler: next(answers)(handler)}) as site:
        result = crawling(site.url(), retries=2)
    assert result.kept == [site.url()]
    assert site.times()["/"] == 3
    first, second = [at for at, path in zip(site.at, site.asked, strict=True) if path == "/"][:2]
    assert second - first >= 0.9


def test_a_date_to_come_back_is_read_and_a_long_wait_is_cut(crawling: Crawling) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(days=400), usegmt=True)
    answers = iter([Reply(b"", 503, {"Retry-After": later}), Reply(html())])
    with serving({"/": lambda handler: next(answers)(handler)}) as site:
        assert crawling(site.url(), max_delay_seconds=0.1).kept == [site.url()]


def test_a_server_that_stays_out_of_order_is_kept_as_its_answer_and_dropped_when_read(crawling: Crawling) -> None:
    with serving({"/": Reply(b"down", 500)}) as site:
        result = crawling(site.url(), retries=2)
    assert site.times()["/"] == 3
    assert [row["status"] for row in result.rows] == [500]


def test_redirects_in_a_row_and_in_a_circle_come_to_an_end(crawling: Crawling) -> None:
    hops = {f"/{number}": redirect(f"/{number + 1}") for number in range(9)}
    with serving({"/": Reply(html("/0", "/circle")), **hops, "/circle": redirect("/circle#again")}) as site:
        result = crawling(site.url(), max_redirects=4)
    assert site.times()["/circle"] == 1
    assert result.reason(site.url("/5")) == "too_many_redirects"
    assert "/5" not in site.asked
