"""robots.txt by RFC 9309: what a site forbids is not asked for, and a site that cannot be asked is left alone."""

import gzip
import time
from collections.abc import Callable

import pytest

from pipelines.corpus.crawler.robots import MAX_BYTES, parsed
from tests.corpus.crawler.conftest import Result
from tests.corpus.crawler.site import Handler, Reply, html, raw, redirect, serving

Crawling = Callable[..., Result]
RULES = b"User-agent: *\nDisallow: /private\nDisallow: /*.cgi$\nAllow: /private/but-this\n"
PAGES = ("/private", "/private/but-this", "/run.cgi", "/run.cgi?x", "/open")
OPEN = {"/private/but-this", "/run.cgi?x", "/open"}


def crawl_with(crawling: Crawling, robots: Callable[[Handler], None], **more: Callable[[Handler], None]) -> set[str]:
    """Return the pages that were asked for under this robots.txt; the seed is `/`."""
    pages = {"/": Reply(html(*PAGES)), **{path: Reply(html()) for path in PAGES}, "/robots.txt": robots}
    with serving({**pages, **{f"/{name}": page for name, page in more.items()}}) as site:
        result = crawling(site.url(), retries=1)
        assert result.counts["crawl_pages"] + result.counts["in"] == len(result.rows)
    return set(site.asked) & {"/", *PAGES}


def test_rules_are_followed_the_longest_first(crawling: Crawling) -> None:
    assert crawl_with(crawling, Reply(RULES, kind="text/plain")) == {"/"} | OPEN


def test_what_is_forbidden_is_counted_and_not_asked_for(crawling: Crawling) -> None:
    with serving({"/": Reply(html(*PAGES)), "/robots.txt": Reply(RULES)}) as site:
        result = crawling(site.url())
    assert result.counts["dropped.crawl_robots"] == 2
    assert result.reason(site.url("/private")) == "robots"
    assert site.times()["/robots.txt"] == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_site_without_robots_may_be_crawled(crawling: Crawling, status: int) -> None:
    assert crawl_with(crawling, Reply(b"", status)) == {"/", *PAGES}


@pytest.mark.parametrize(
    "robots",
    [
        Reply(b"", 500),
        Reply(b"", 503),
        Reply(b"", 429),
        raw(b"", reset=True),
        raw(b"nothing of HTTP\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nUser-agent: *\n"),
        Reply(b"junk", headers={"Content-Encoding": "gzip"}),
        Reply(RULES, headers={"Content-Encoding": "br"}),
        redirect("/robots.txt"),
        redirect("file:///etc/passwd"),
        redirect("http://127.0.0.9/robots.txt"),
        redirect("http://[::1]/robots.txt"),
    ],
    ids=lambda robots: getattr(robots, "headers", {}).get("Location") or str(getattr(robots, "status", "raw")),
)
def test_robots_that_cannot_be_read_mean_no(crawling: Crawling, robots: Callable[[Handler], None]) -> None:
    assert crawl_with(crawling, robots) == set()


def test_five_redirects_of_robots_are_followed_and_six_mean_no(crawling: Crawling, tmp_path: object) -> None:
    hops = {f"r{number}": redirect(f"/r{number + 1}") for number in range(1, 5)}
    assert crawl_with(crawling, redirect("/r1"), **hops, r5=Reply(RULES)) == {"/"} | OPEN


def test_six_redirects_of_robots_mean_no(crawling: Crawling) -> None:
    hops = {f"r{number}": redirect(f"/r{number + 1}") for number in range(1, 6)}
    assert crawl_with(crawling, redirect("/r1"), **hops, r6=Reply(RULES)) == set()


def test_robots_are_read_to_500_kibibytes(crawling: Crawling) -> None:
    comment = b"# " + b"x" * 1000 + b"\n"
    room = MAX_BYTES // len(comment) - 2
    late = RULES + comment * (room + 10) + b"Disallow: /open\n"
    early = RULES + comment * room + b"Disallow: /open\n"
    assert crawl_with(crawling, Reply(late)) == {"/"} | OPEN
    assert parsed(early.decode(), "gristmill").reason_against("http://a/open", "gristmill") == "robots"


def test_robots_that_never_end_are_cut(crawling: Crawling) -> None:
    def endless(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n" + RULES)
        while True:
            handler.wfile.write(b"# more\n" * 1000)

    assert crawl_with(crawling, endless) == {"/"} | OPEN


def test_robots_that_come_squeezed_are_unpacked(crawling: Crawling) -> None:
    squeezed = Reply(gzip.compress(RULES), headers={"Content-Encoding": "gzip"})
    assert crawl_with(crawling, squeezed) == {"/"} | OPEN


def test_rules_for_this_crawler_go_before_those_for_all() -> None:
    text = "User-agent: *\nDisallow: /\n\nUser-agent: Other\nUser-agent: Gristmill\nDisallow: /a\nCrawl-delay: 7\n"
    robots = parsed(text, "gristmill")
    assert robots.delay_seconds == 7
    assert robots.reason_against("http://h/b", "gristmill") is None
    assert robots.reason_against("http://h/a", "gristmill") == "robots"
    others = parsed(text.replace("Gristmill", "Mill"), "gristmill")
    assert others.reason_against("http://h/b", "gristmill") == "robots"


@pytest.mark.parametrize(
    ("line", "seconds"),
    [("Crawl-delay: 2.5", 2.5), ("Request-rate: 1/10s", 10), ("Crawl-delay: nan", 0), ("Crawl-delay: -1", 0)],
)
def test_delays_are_taken_from_robots(line: str, seconds: float) -> None:
    assert parsed(f"User-agent: *\n{line}\n", "gristmill").delay_seconds == seconds


def test_a_host_that_asks_for_too_long_a_delay_is_left_alone(crawling: Crawling) -> None:
    with serving({"/": Reply(html()), "/robots.txt": Reply(b"User-agent: *\nCrawl-delay: 86400\n")}) as site:
        result = crawling(site.url(), max_delay_seconds=10)
    assert result.counts["dropped.crawl_long_delay"] == 1
    assert site.asked == ["/robots.txt"]


@pytest.mark.parametrize("field", ["User-agent: bot{}", "user agent bot{}", "\x0bUser-agent: bot{}", "useragent:bot{}"])
def test_robots_of_many_agents_and_rules_take_no_time_and_memory(field: str) -> None:
    agents = "\n".join(field.format(number) for number in range(15_000))
    rules = "\n".join(f"Disallow: /{number}" for number in range(15_000))
    started = time.process_time()
    robots = parsed(f"{agents}\n{rules}\n", "gristmill")
    assert time.process_time() - started < 20, "each rule was kept once for each agent"
    assert robots.reason_against("http://a/1", "gristmill") is None


def test_hostile_wildcards_take_no_time() -> None:
    robots = parsed("User-agent: *\n" + f"Disallow: /{'*a' * 1000}b$\n" * 100, "gristmill")
    started = time.process_time()
    assert robots.reason_against("http://h/" + "a" * 2000, "gristmill") is None
    assert time.process_time() - started < 20
