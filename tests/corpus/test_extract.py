"""Main text of pages, and the refusal of pages that would take an extractor for ever."""

import gzip
import tarfile
from pathlib import Path

import pytest

from pipelines.corpus.extract import Extractor, main_text, too_complex

ARTICLE = """<html><head><title>Title</title><style>p {color: red}</style></head><body>
<nav><a href="/">Home</a> <a href="/about">About</a></nav>
<main><h1>How mills grind</h1>
<p>The miller pours the grain between two stones, of which only the upper one turns with the wheel.</p>
<p>What falls out at the rim is meal, and the sieve parts the flour from the bran before it is bagged.</p></main>
<script>var tracking = "no text";</script><footer>Imprint</footer></body></html>"""

BLOW_UPS = {
    "nested blocks": "<div>" * 10_000 + "x",
    "nested articles": "<ARTICLE>" * 10_000 + "x",
    "blocks below blocks": "<div>" * 500 + "<p>hello</p>" * 50_000,
    "options": "<select>" + "<option>x" * 40_000,
    "attributes": "<p " + " ".join(f"a{i}=1" for i in range(100_000)) + ">x</p>",
    "attributes without values": "<p " + " ".join(f"a{i}" for i in range(100_000)) + ">x</p>",
    "attributes behind quoted brackets": "<p " + " ".join(f"a{i}='>'" for i in range(100_000)) + ">x</p>",
    "attributes behind stray quotes": '<p "' + " ".join(f"a{i}" for i in range(100_000)) + '">x</p>',
    "attributes behind slashes": "<p " + "/".join(f"a{i}" for i in range(100_000)) + ">x</p>",
    "tags": "<p>x" * 1_100_000,
}


@pytest.mark.parametrize("extractor", ["fast", "quality"])
def test_main_text_keeps_paragraphs_apart_and_leaves_scripts_out(extractor: Extractor) -> None:
    text = main_text(ARTICLE.encode(), extractor)
    first, second = (text.index(start) for start in ("The miller", "What falls"))
    assert "\n" in text[first:second]
    assert "tracking" not in text
    assert "color" not in text


@pytest.mark.parametrize("extractor", ["fast", "quality"])
@pytest.mark.parametrize("html", ["", " ", "<html></html>", "<p>", "\ufffd", "<!-- -->", "<" * 1000])
def test_a_page_without_text_gives_an_empty_string(extractor: Extractor, html: str) -> None:
    assert main_text(html.encode(), extractor).strip("\ufffd<") == ""


@pytest.mark.parametrize("form", BLOW_UPS)
def test_a_page_that_would_take_for_ever_is_refused(form: str) -> None:
    assert too_complex(f"<html><body>{BLOW_UPS[form]}".encode(), "fast")


def test_real_and_sloppy_pages_are_not_refused() -> None:
    sloppy = "<p>one<li>two<font size=2>three" * 20_000
    script = "<script>" + "if (a<b && c >= 'x') { f(d); }\n" * 10_000 + "</script>"
    cells = "<table>" + "<tr><td class='a' id=b>x</td></tr>" * 20_000
    sections = "<div class='x'><div><p>text</p></div></div>" * 20_000
    image = f"<img src='data:image/png;base64,{'abc=' * 100_000}'>"
    for html in (ARTICLE, sloppy, script, cells, sections, image):
        assert not too_complex(html.encode(), "fast")


def test_no_real_article_is_refused_or_left_without_text(shared_data: Path) -> None:
    with tarfile.open(shared_data / "extraction" / "article-extraction.tar.xz") as archive:
        pages = [member for member in archive if member.name.endswith(".html.gz")][:30]
        for member in pages:
            file = archive.extractfile(member)
            assert file is not None
            html = gzip.decompress(file.read())
            assert not too_complex(html, "fast")
            assert len(main_text(html, "fast")) > 100
