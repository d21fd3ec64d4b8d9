"""A crawl of a real site on the loopback interface: what it keeps, what it leaves, and what it writes."""

import asyncio
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.artifacts.errors import EmptyOutput
from pipelines.corpus.crawler.crawl import user_agent
from pipelines.corpus.documents import read_documents
from pipelines.corpus.ingest import IngestConfig, ingest
from pipelines.corpus.readers.records import Record
from tests.corpus.crawler.conftest import Result, source
from tests.corpus.crawler.site import Reply, html, redirect, serving

Crawling = Callable[..., Result]
TREE: dict[str, Reply] = {
    "/": Reply(html("/a", "/b", "/a#part", "mailto:x@example.org", title="Root")),
    "/a": Reply(html("/a/deep", "/", title="Part A")),
    "/b": redirect("/c"),
    "/c": Reply(html(title="Part C")),
    "/a/deep": Reply(html("/a/deeper", title="Deep")),
    "/a/deeper": Reply(html(title="Deeper")),
}


def test_a_crawl_follows_links_and_redirects_and_asks_for_no_page_twice(crawling: Crawling) -> None:
    with serving(TREE) as site:
        result = crawling(site.url())
        assert set(result.kept) == {site.url(path) for path in TREE}
    assert set(site.times().values()) == {1}
    assert result.counts["in"] == 0
    assert result.counts["crawl_pages"] == 6


def test_ingest_reads_a_crawl_through_the_warc_reader_and_counts_every_url(tmp_path: Path) -> None:
    pages = TREE | {"/a/deep": Reply(b"x", kind="image/png"), "/c": Reply(b"gone", 410)}
    with serving(pages) as site:
        config = IngestConfig(source=source(site.url()))
        metrics = ingest(config, out=tmp_path)
        documents = list(read_documents(tmp_path / "documents"))
        assert [document.metadata["url"] for document in documents] == [site.url("/"), site.url("/a")]
        before = list(site.asked)
        assert ingest(config, out=tmp_path) == metrics
        assert site.asked == before, "a finished crawl is not run again"
    assert metrics["kept"] == 2
    assert metrics["dropped.crawl_content_type"] == 1
    assert metrics["dropped.http_status"] == 2
    assert metrics["in"] == metrics["kept"] + sum(n for name, n in metrics.items() if name.startswith("dropped."))
    assert documents[0].metadata["source_uri"] == "crawl-00000.warc.gz"
    assert documents[0].metadata["crawl_time"].endswith("Z")


def test_a_crawl_that_finds_nothing_says_why(tmp_path: Path) -> None:
    with (
        serving({"/robots.txt": Reply(b"User-agent: *\nDisallow: /")}) as site,
        pytest.raises(EmptyOutput, match="robots 1"),
    ):
        ingest(IngestConfig(source=source(site.url())), out=tmp_path)


def test_another_reader_of_warc_finds_every_record_whole_and_its_digests_right(crawling: Crawling) -> None:
    warcio = pytest.importorskip("warcio.archiveiterator", reason="warcio is the oracle")
    squeezed = Reply(gzip.compress(html(title="Squeezed")), headers={"Content-Encoding": "gzip"})
    with serving(TREE | {"/c": squeezed}) as site:
        result = crawling(site.url(), file_bytes=10_000)
    kinds: list[str] = []
    for path in result.files:
        with path.open("rb") as file:
            for number, record in enumerate(warcio.ArchiveIterator(file, check_digests="raise")):
                content = record.content_stream().read()
                assert (record.rec_type == "warcinfo") == (number == 0), "each file begins by saying what it is"
                assert record.rec_headers.protocol == "WARC/1.1"
                kinds.append(record.rec_type)
                if record.rec_headers["WARC-Target-URI"] == site.url("/c") and record.rec_type == "response":
                    assert content == html(title="Squeezed")
                    assert record.rec_headers["WARC-IP-Address"] == "127.0.0.1"
                if record.rec_type == "request":
                    assert record.http_headers.get_header("User-Agent") == user_agent(source(site.url()))
    assert [kinds.count(kind) for kind in ("response", "request", "metadata")] == [6, 6, 6]


def test_files_end_before_they_outgrow_their_limit(crawling: Crawling) -> None:
    pages = {f"/{n}": Reply(html(title=f"P{n}") + bytes(str(list(range(n, n + 900))), "ascii")) for n in range(12)}
    with serving(pages | {"/": Reply(html(*pages))}) as site:
        result = crawling(site.url(), file_bytes=10_000)
    assert len(result.files) > 2
    assert all(path.stat().st_size <= 10_000 for path in result.files)
    assert result.counts["crawl_pages"] == 13


@pytest.mark.parametrize(
    ("limit", "pages"),
    [
        ({"max_pages": 4}, 4),
        ({"max_pages_per_host": 3}, 3),
        ({"max_depth": 0}, 1),
        ({"max_links_per_page": 2}, 3),
        ({"max_urls": 5}, 5),
        ({"max_bytes": 1}, 1),
        ({"max_bytes_per_host": 1}, 1),
    ],
    ids=str,
)
def test_limits_hold_and_what_they_leave_is_counted(crawling: Crawling, limit: dict[str, int], pages: int) -> None:
    with serving({"/": Reply(html(*map(str, range(20)))), **{f"/{n}": Reply(html()) for n in range(20)}}) as site:
        result = crawling(site.url(), **limit)
    assert result.counts["crawl_pages"] == pages
    asked = len([path for path in site.asked if path != "/robots.txt"])
    assert asked == pages
    unseen = result.counts["crawl_urls_left"] + result.counts["crawl_links_over_limit"]
    assert unseen == (0 if "max_depth" in limit else 21 - pages)


def test_one_host_is_asked_by_one_request_at_a_time_and_not_faster_than_its_delay(crawling: Crawling) -> None:
    robots = Reply(b"User-agent: *\nCrawl-delay: 0.3", kind="text/plain")
    with serving({**TREE, "/robots.txt": robots}) as site:
        crawling(site.url(), connections=8)
    assert site.most_at_once == 1
    assert site.at[-1] - site.at[1] >= 0.3 * 4, "five delays, less what a busy machine may take from the first"


def test_hosts_are_crawled_side_by_side_and_more_requests_to_one_where_that_is_asked_for(crawling: Crawling) -> None:
    pages = {f"/{n}": Reply(html()) for n in range(8)}
    with serving(pages | {"/": Reply(html(*pages))}, delay=0.05) as site:
        crawling(site.url(), connections_per_host=4)
    assert 1 < site.most_at_once <= 4


def test_only_hosts_in_scope_are_asked(crawling: Crawling, tmp_path: Path) -> None:
    async def lookup(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    with serving({}) as site:
        there = {"own": "own.example", "www": "www.own.example", "sub": "docs.own.example", "far": "far.example"}
        links = [site.url(f"/{name}", host) for name, host in there.items()]
        site.pages |= {"/": Reply(html(*links)), **{f"/{name}": Reply(html()) for name in there}}
        seed = site.url("/", "own.example")
        asked = {}
        for scope in ("host", "subdomains", "any"):
            result = crawling(seed, lookup=lookup, scope=scope, out=tmp_path / scope)
            asked[scope] = {url.rpartition("/")[2] for url in result.kept} - {""}
            assert result.counts["crawl_links_out_of_scope"] == 4 - len(asked[scope])
        assert asked == {"host": {"own", "www"}, "subdomains": {"own", "www", "sub"}, "any": set(there)}
        assert f"own.example:{site.port}" in site.hosts, "the name is sent, not the address"


def test_rules_of_pages_about_being_kept_and_followed_are_honoured(crawling: Crawling) -> None:
    def meta(rule: str, name: str = "robots") -> str:
        return f'<meta name="{name}" content="{rule}">'

    pages = {
        "/": Reply(html("/hidden", "/closed", "/header", "/ours", "/based", "/ok") + b'<a rel="nofollow" href="/no">'),
        "/hidden": Reply(html("/from-hidden", head=meta("NoIndex"))),
        "/closed": Reply(html("/from-closed", head=meta("nofollow"))),
        "/header": Reply(html("/from-header"), headers={"X-Robots-Tag": "other: none, gristmill: noindex, nofollow"}),
        "/ours": Reply(html("/from-ours", head=meta("none", "gristmill"))),
        "/based": Reply(html("page", head='<base href="/in/">')),
        "/ok": Reply(html("/from-ok", head=meta("noindex", "googlebot")), headers={"X-Robots-Tag": "other: noindex"}),
        **{path: Reply(html()) for path in ("/from-hidden", "/in/page", "/from-ok")},
    }
    with serving(pages) as site:
        result = crawling(site.url())
    assert {path for path in site.asked if path != "/robots.txt"} == set(pages)
    assert result.counts["dropped.crawl_noindex"] == 3
    assert {url.removeprefix(site.url("")) for url in result.kept} == set(pages) - {"/hidden", "/header", "/ours"}


def test_a_crawl_runs_beside_the_event_loop_of_a_notebook(crawling: Crawling) -> None:
    async def cell(url: str) -> Result:
        return crawling(url)

    with serving(TREE) as site:
        assert asyncio.run(cell(site.url())).counts["crawl_pages"] == 6


def test_a_page_too_complex_to_parse_costs_only_its_links(crawling: Crawling) -> None:
    bad = b"<html><body><p>text</p><a href='/x' " + b" ".join(b"a%d=1" % n for n in range(60_000)) + b">x</a>"
    with serving({"/": Reply(html("/bad", "/good")), "/bad": Reply(bad), "/good": Reply(html())}) as site:
        result = crawling(site.url())
    assert result.counts["crawl_pages"] == 3
    assert "/x" not in site.asked


def test_what_the_crawl_wrote_are_records_of_the_reader(crawling: Crawling) -> None:
    from pipelines.corpus.readers.crawl_pages import crawl_pages
    from pipelines.corpus.readers.records import Limits

    with serving(TREE) as site:
        result = crawling(site.url())
    items = list(crawl_pages(result.files[0], Limits(record=10**6, page=10**6)))
    pages = {item.url: item for item in items if isinstance(item, Record)}
    assert set(pages) == {site.url(path) for path in TREE if path != "/b"}
    rows = {row["url"]: row for row in result.rows}
    assert all(rows[url]["offset"] == page.offset for url, page in pages.items())
