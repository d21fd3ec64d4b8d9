"""The corpus is written as a crawl that any reader of WARC takes, and holds nothing of the evaluation."""

import gzip
import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType
from hypothesis import given, settings
from hypothesis import strategies as st
from resiliparse.extract.html2text import extract_plain_text

from pipelines.corpus.documented import pages
from pipelines.corpus.documented.clusters import words
from pipelines.corpus.documented.docstring_html import inline, to_html
from pipelines.corpus.documented.objects import DocObject
from pipelines.corpus.documented.pages import render_page, render_pages, write_crawl
from pipelines.corpus.examples import DocsSource, ExamplesConfig, examples

Crawl = dict[str, str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stage's output for two packages, with the crawl."""
    out = tmp_path_factory.mktemp("examples")
    examples(ExamplesConfig(source=DocsSource(packages=("click", "rich"), test_fraction=0.15)), out=out)
    write_crawl(out / "objects", out / "crawl", out)
    return out


@pytest.fixture(scope="module")
def crawl(built: Path) -> Crawl:
    """The pages by URL, read back."""
    found = {}
    for path in sorted((built / "crawl").iterdir()):
        with path.open("rb") as file:
            for record in ArchiveIterator(file, record_types=WarcRecordType.response, verify_digests=True):
                assert record.http_content_type == "text/html"
                assert record.headers["WARC-Date"] == pages.CRAWL_DATE
                found[record.headers["WARC-Target-URI"]] = record.reader.read().decode()
    return found


class Reader(HTMLParser):
    """Checks that elements nest and keeps the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def text_of(html: str) -> str:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader.text


def test_every_training_object_has_its_section_and_no_other_has(built: Path, crawl: Crawl) -> None:
    rows = pq.read_table(built / "objects" / "objects.parquet").to_pylist()
    html = "\n".join(crawl.values())
    assert {row["split"] for row in rows} == {"train", "heldout", "test"}
    for row in rows:
        assert html.count(f'<section id="{row["name"]}">') == (row["split"] == "train")


def test_no_page_holds_the_summary_of_an_object_that_is_held_out(built: Path, crawl: Crawl) -> None:
    spoken = [f" {' '.join(words(text_of(html)))} " for html in crawl.values()]
    for row in pq.read_table(built / "objects" / "objects.parquet").to_pylist():
        if row["split"] != "train":
            summary = f" {' '.join(words(row['summary']))} "
            assert not [page for page in spoken if summary in page], row["name"]


def test_extraction_finds_the_documentation_without_the_frame(crawl: Crawl) -> None:
    html = next(html for url, html in crawl.items() if url == "https://docs.example/rich/rich.box/Box.html")
    text = extract_plain_text(html, main_content=True)
    assert "Defines characters to render boxes." in text
    assert "Privacy" in html
    assert "Privacy" not in text
    assert "Table of contents" not in text


def test_a_record_is_a_gzip_member_of_its_own(built: Path) -> None:
    path = next((built / "crawl").iterdir())
    content = path.read_bytes()
    with path.open("rb") as file:
        starts = [record.stream_pos for record in ArchiveIterator(file)]
    for start, end in zip(starts, [*starts[1:], len(content)], strict=True):
        assert gzip.decompress(content[start:end]).startswith(b"WARC/1.1\r\n")
    assert gzip.decompress(content[: starts[1]]).count(b"WARC-Type: warcinfo") == 1


def test_the_crawl_has_the_same_bytes_each_time(built: Path, tmp_path: Path) -> None:
    again = write_crawl(built / "objects", tmp_path / "crawl", tmp_path)
    assert [path.name for path in again] == ["docs-00000.warc.gz"]
    assert again[0].read_bytes() == (built / "crawl" / "docs-00000.warc.gz").read_bytes()


def test_a_crawl_file_holds_a_bounded_number_of_pages(
    built: Path, crawl: Crawl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PAGES_PER_FILE", 40)
    files = write_crawl(built / "objects", tmp_path / "crawl", tmp_path)
    assert [path.name for path in files] == [f"docs-{number:05d}.warc.gz" for number in range(-(-len(crawl) // 40))]
    urls = [
        record.headers["WARC-Target-URI"]
        for path in files
        for record in ArchiveIterator(io.BytesIO(path.read_bytes()), record_types=WarcRecordType.response)
    ]
    assert urls == list(crawl)


def made(name: str, docstring: str) -> DocObject:
    return DocObject(name, name, "function", "p", "p.m", "p.m", f"{name}()", docstring, docstring, "p/m.py", 1)


def test_a_long_module_goes_on_another_page() -> None:
    objects = [made(f"p.m.f{index}", "long words " * 5000) for index in range(10)]
    found = dict(render_pages(objects))
    assert list(found) == [f"https://docs.example/p/p.m{part}.html" for part in ("", "-2", "-3", "-4")]
    assert sum(html.count("<section") for html in found.values()) == 10


def test_a_class_and_a_module_of_the_same_dotted_name_have_pages_of_their_own() -> None:
    method = replace(made("p.m.run", "Run it now, please."), kind="method", module="p", page="p.m")
    assert [url for url, _ in render_pages([method, made("p.m.f", "Do it now, please.")])] == [
        "https://docs.example/p/p/m.html",
        "https://docs.example/p/p.m.html",
    ]


DOCSTRING = """Draw a ``<shape>`` & **fill** it.

Args:
    shape (Shape): What to draw,
        with :class:`~p.Colour`.
    page: Where.

Parameters
----------
x : int
    The place.

- one
- two
  goes on

.. versionadded:: 1.2

Use it::

    draw(a < b)

>>> draw("`x`")
'ok'
"""


def test_a_docstring_becomes_headings_lists_definitions_and_code() -> None:
    html = to_html(DOCSTRING)
    for expected in (
        "<p>Draw a <code>&lt;shape&gt;</code> &amp; fill it.</p>",
        "<dt>Args:</dt>\n<dd>shape (Shape): What to draw, with Colour. page: Where.</dd>",
        "<h3>Parameters</h3>\n<dl>\n<dt>x : int</dt>\n<dd>The place.</dd>\n</dl>",
        "<ul>\n<li>one</li>\n<li>two goes on</li>\n</ul>",
        "<p>Versionadded: 1.2</p>",
        "<p>Use it::</p>\n<pre><code>draw(a &lt; b)</code></pre>",
        "<pre><code>&gt;&gt;&gt; draw(&quot;`x`&quot;)\n&#x27;ok&#x27;</code></pre>",
    ):
        assert expected in html, expected


@settings(max_examples=200)
@given(st.text(st.sampled_from("ab <>&\"'\n-=*`:.[]()|\\>"), max_size=120))
def test_any_docstring_is_well_formed_html(docstring: str) -> None:
    text_of(to_html(docstring))
    text_of(render_page("p", "p.m", [made("p.m.f", docstring)], {"p.m": "/p.html", "p.m.<b>": "/<b>.html"}))
    assert "\n" not in inline(docstring)
