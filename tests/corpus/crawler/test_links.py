"""The links of a page: all that a reader could follow, in time that grows with the page."""

import time

import pytest

from pipelines.corpus.crawler.links import Links, header_rules, links_of

PAGE = "http://h.example/a/page"


def links(html: str, header: str = "", limit: int = 100) -> Links:
    return links_of(html, PAGE, "gristmill", header, limit)


def test_links_come_in_the_order_of_the_page_each_once_and_in_normal_form() -> None:
    html = (
        '<a href="b">1</a><map><area href=" /c "></map><iframe src="//o.example/d"></iframe><a href="b#x">2</a><a>3</a>'
    )
    assert links(html).urls == ("http://h.example/a/b", "http://h.example/c", "http://o.example/d")


def test_links_are_relative_to_the_first_base_wherever_it_stands() -> None:
    html = '<a href="b">1</a><base href="/in/"><base href="/other/">'
    assert links(html).urls == ("http://h.example/in/b",)
    assert links('<base href="javascript:x"><a href="b">1</a>').urls == ("http://h.example/a/b",)


def test_what_no_crawl_follows_is_counted() -> None:
    html = '<a href="mailto:x@y">1</a><a href="http://u:p@h/">2</a><a href="#x">3</a><a href="">4</a><a href="b">5</a>'
    assert links(html) == Links(("http://h.example/a/b",), bad=2)
    many = "".join(f'<a href="{number}">x</a>' for number in range(9))
    assert (len(links(many, limit=4).urls), links(many, limit=4).over) == (4, 5)


def test_links_marked_nofollow_are_left() -> None:
    assert links('<a href="b" rel="noopener NOFOLLOW">1</a><a href="c" rel="nofollowed">2</a>').urls == (
        "http://h.example/a/c",
    )


@pytest.mark.parametrize(
    ("head", "header", "followed", "noindex"),
    [
        ("", "", True, False),
        ('<meta name="Robots" content="noindex">', "", True, True),
        ('<meta content="none" name="robots">', "", False, True),
        ('<meta name="gristmill" content="nofollow">', "", False, False),
        ('<meta name="otherbot" content="none">', "", True, False),
        ("", "noindex, nofollow", False, True),
        ("", "gristmill: nofollow", False, False),
        ("", "otherbot: noindex, nofollow", True, False),
        ("", "unavailable_after: 25 Jun 2030, noindex", True, True),
    ],
)
def test_rules_of_a_page_hold_for_this_crawler_and_all(head: str, header: str, followed: bool, noindex: bool) -> None:
    found = links(f"<head>{head}</head><a href='b'>x</a>", header)
    assert (bool(found.urls), found.noindex) == (followed, noindex)


def test_rules_of_a_header_name_their_crawler() -> None:
    assert header_rules("otherbot: noindex, gristmill: nofollow", "gristmill") == {"nofollow"}


@pytest.mark.parametrize(
    "html",
    [
        "<a href='/x'>x</a>" * 15_000,
        "<div>" * 30_000 + "<a href='/x'>",
        "<a href='/x'>" * 15_000,
        "<b>" * 100_000,
        "<a " + "x=1 " * 9_000 + "href='/x'>y</a>",
        "<a href='" + "x" * 3_000_000 + "'>y</a>",
        "\0\ufffd<a href='\0'>" * 1_000,
    ],
    ids=["many", "deep", "nested links", "many tags", "attributes", "long", "odd"],
)
def test_hostile_pages_take_seconds_at_most(html: str) -> None:
    started = time.process_time()
    links(html, limit=100)
    assert time.process_time() - started < 20
