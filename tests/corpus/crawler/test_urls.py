"""A page has one URL, and what is no URL of a page is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.corpus.crawler.urls import MAX_CHARS, BadUrl, Scope, host_of, normalised, origin_of


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("HTTP://Example.COM:80/a/../b/./c?x=1&y=%7e#part", "http://example.com/b/c?x=1&y=~"),
        ("https://example.com:443", "https://example.com/"),
        ("http://example.com:8080", "http://example.com:8080/"),
        ("http://example.com./?", "http://example.com/"),
        (" http://bücher.example/ä b?ö=1 ", "http://xn--bcher-kva.example/%C3%A4%20b?%C3%B6=1"),
        ("http://a.example/%c3%a4%41", "http://a.example/%C3%A4A"),
        ("http://a.example/x\n\ty", "http://a.example/xy"),
        ("http://a.example//b", "http://a.example//b"),
        ("http://a.example/?b=2&a=1&a=3", "http://a.example/?b=2&a=1&a=3"),
        ("http://[2606:4700::1111]:80/", "http://[2606:4700::1111]/"),
    ],
)
def test_a_url_has_one_form(text: str, form: str) -> None:
    assert normalised(text) == form == normalised(form)


@pytest.mark.parametrize(
    ("link", "form"),
    [
        ("b", "http://h/a/b"),
        ("/b", "http://h/b"),
        ("../../b", "http://h/b"),
        ("//o/b", "http://o/b"),
        ("?q", "http://h/a/?q"),
    ],
)
def test_a_link_is_relative_to_its_page(link: str, form: str) -> None:
    assert normalised(link, "http://h/a/") == form


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ftp://a.example/", "bad_scheme"),
        ("file:///etc/passwd", "bad_scheme"),
        ("javascript:alert(1)", "bad_scheme"),
        ("a.example/x", "bad_scheme"),
        ("", "bad_scheme"),
        ("http:///x", "bad_url"),
        ("http://user@a.example/", "credentials"),
        ("http://user:word@a.example/", "credentials"),
        ("http://:word@a.example/", "credentials"),
        ("http://a.example:99999/", "bad_url"),
        ("http://a.example:0/", "bad_url"),
        ("http://a b.example/", "bad_url"),
        ("http://a%2eexample/", "bad_url"),
        ("http://a\\@b.example/", "bad_url"),
        ("http://[fe80::1%25eth0]/", "bad_url"),
        ("http://[::1", "bad_url"),
        ("http://" + "a" * 300 + "/", "bad_url"),
        ("http://a.example/" + "x" * MAX_CHARS, "long_url"),
        ("http://a.example/" + "ä" * 800, "long_url"),
    ],
)
def test_what_cannot_be_crawled_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(BadUrl) as told:
        normalised(text)
    assert told.value.reason == reason
    assert len(str(told.value)) < MAX_CHARS + 100


@given(
    st.text(max_size=60), st.sampled_from(["", "http://", "https://a.example/", "//", "/", "?", "http://a.example:"])
)
def test_no_text_breaks_the_normal_form_and_a_normal_url_is_its_own(text: str, start: str) -> None:
    try:
        form = normalised(start + text, "http://base.example/x/")
    except BadUrl:
        return
    assert form == normalised(form)
    assert form.startswith(("http://", "https://"))
    assert form.isascii()
    assert "#" not in form
    assert host_of(form)
    assert form.startswith(origin_of(form) + "/")


def test_a_scope_covers_its_hosts_and_their_subdomains_where_that_is_asked_for() -> None:
    seeds = ["http://www.a.example/", "http://b.example/x"]
    assert Scope(seeds, (), "host").covers("https://a.example/1")
    assert not Scope(seeds, (), "host").covers("http://docs.a.example/")
    assert Scope(seeds, (), "subdomains").covers("http://docs.a.example/")
    assert not Scope(seeds, (), "subdomains").covers("http://nota.example/")
    assert Scope(seeds, ("c.example",), "host").covers("http://c.example/")
    assert Scope(seeds, (), "any").covers("http://z.example/")
