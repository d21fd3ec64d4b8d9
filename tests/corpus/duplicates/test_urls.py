import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.corpus.duplicates.urls import normalised_url


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTP://User@EXAMPLE.com:80/%7Esmith/a%2fb?q=1#top", "http://example.com/~smith/a%2Fb?q=1"),
        ("https://example.com:443", "https://example.com/"),
        ("https://example.com:8443/./a/../b/", "https://example.com:8443/b/"),
        ("https://example.com./../..", "https://example.com/"),
        ("http://[2001:DB8::1]:80/é", "http://[2001:db8::1]/%C3%A9"),
        ("  https://example.com/?b=2&a=1 ", "https://example.com/?b=2&a=1"),
    ],
)
def test_an_address_takes_its_normal_form(url: str, normal: str) -> None:
    assert normalised_url(url) == normal


@pytest.mark.parametrize("url", [None, "", "example.com/page", "/page", "http://", "http://a:port/", "http://[::1"])
def test_what_names_no_host_is_no_address(url: str | None) -> None:
    assert normalised_url(url) is None


@pytest.mark.parametrize("other", ["http://example.com/b", "https://example.com/a?x", "https://example.com/A"])
def test_what_may_be_another_page_stays_apart(other: str) -> None:
    assert normalised_url(other) != normalised_url("https://example.com/a")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), st.text(max_size=20))
def test_normalising_an_address_twice_changes_nothing(path: str, query: str) -> None:
    once = normalised_url(f"http://example.org/{path}?{query}")
    assert once is None or normalised_url(once) == once
