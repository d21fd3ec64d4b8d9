"""JATS: title, abstract and body of a paper with its provenance, or a counted reason."""

import gzip
from pathlib import Path

import pytest

from pipelines.corpus.readers.jats import jats_records
from pipelines.corpus.readers.records import Dropped, Record
from tests.corpus.readers.test_epub import LAUGHS
from tests.corpus.sources_bench import LIMITS, shown

DOCTYPE = b"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE article PUBLIC "-//NLM//DTD JATS (Z39.96) Journal Archiving and Interchange DTD v1.2 20190208//EN"
 "JATS-archivearticle1.dtd">
"""
PAPER = b"""<article article-type="research-article" xmlns:xlink="http://www.w3.org/1999/xlink"
 xmlns:mml="http://www.w3.org/1998/Math/MathML" xml:lang="en">
<front><journal-meta><journal-title-group><journal-title>Mills</journal-title></journal-title-group></journal-meta>
<article-meta><article-id pub-id-type="pmcid">PMC42</article-id>
<article-id pub-id-type="doi">10.1000/mill.1</article-id>
<title-group><article-title>On <italic>water</italic> &amp; wheels<xref ref-type="fn" rid="n"/></article-title>
</title-group>
<contrib-group><contrib><name><surname>Miller</surname></name></contrib></contrib-group>
<pub-date pub-type="epub"><day>7</day><month>3</month><year>2021</year></pub-date>
<pub-date pub-type="collection"><year>2022</year></pub-date>
<permissions><license xlink:href="https://creativecommons.org/licenses/by/4.0/"><license-p>CC</license-p></license>
</permissions>
<abstract><p>We ask   what the\nriver thinks.</p></abstract>
<abstract abstract-type="graphical"><p>A picture.</p></abstract></article-meta></front>
<body><sec><title>Methods</title><p>Wheels turn <xref ref-type="bibr" rid="b1">[1]</xref> at
<inline-formula><mml:math><mml:mi>v</mml:mi><mml:mo>=</mml:mo><mml:mn>3</mml:mn></mml:math>
<tex-math>\\usepackage{junk}</tex-math></inline-formula> each day.</p>
<table-wrap><caption><p>Speeds.</p></caption><table><tr><td>1</td></tr></table></table-wrap>
<list><list-item><p>corn</p></list-item><list-item><p>rye</p></list-item></list></sec></body>
<back><ref-list><ref id="b1"><mixed-citation>Somebody 1999</mixed-citation></ref></ref-list></back></article>"""
TEXT = (
    "On water & wheels\n\nWe ask what the river thinks.\n\nMethods\n\nWheels turn [1] at v=3 each day.\n\nSpeeds."
    "\n\ncorn\n\nrye"
)


def read(path: Path, body: bytes) -> list[Record | Dropped]:
    path.write_bytes(body)
    return list(jats_records(path, LIMITS))


@pytest.mark.parametrize("body", [DOCTYPE + PAPER, gzip.compress(DOCTYPE + PAPER)])
def test_a_paper_is_its_title_abstract_and_body(tmp_path: Path, body: bytes) -> None:
    (record,) = read(tmp_path / "a.nxml", body)
    assert isinstance(record, Record)
    assert record.content == TEXT
    assert record.url == "https://doi.org/10.1000/mill.1"
    assert record.crawl_time == "2021-03-07T00:00:00Z"
    assert record.licence == "CC-BY-4.0"


def test_a_set_of_papers_is_read_one_by_one(tmp_path: Path) -> None:
    second = PAPER.replace(b"10.1000/mill.1", b"").replace(b"licenses/by/4.0/", b"publicdomain/zero/1.0/")
    records = read(tmp_path / "a.xml", b"<pmc-articleset>" + PAPER + second + b"</pmc-articleset>")
    assert [record.url for record in records if isinstance(record, Record)] == [
        "https://doi.org/10.1000/mill.1",
        "https://www.ncbi.nlm.nih.gov/pmc/articles/PMC42/",
    ]
    assert [(item.offset, item.licence) for item in records if isinstance(item, Record)] == [
        (0, "CC-BY-4.0"),
        (1, "CC0-1.0"),
    ]


def test_a_paper_that_says_nothing_of_itself_is_read_all_the_same(tmp_path: Path) -> None:
    (record,) = read(tmp_path / "a.xml", b"<article><body><p>Only this.</p></body></article>")
    assert isinstance(record, Record)
    assert (record.content, record.url, record.crawl_time, record.licence) == ("Only this.", "", "", "")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "empty_file"),
        (b"<article><body><p>cut", "bad_xml"),
        (b"<html><body>another format</body></html>", "not_jats"),
        (DOCTYPE + b"<article>" + b"<sec>" * 5_000 + b"</sec>" * 5_000 + b"</article>", "bad_xml"),
        (LAUGHS.replace(b"html", b"article", 1) + b"<article><body><p>x&j;y</p></body></article>", "bad_xml"),
        (LAUGHS.replace(b"html", b"article", 1) + b"<article a='&j;'><body><p>x</p></body></article>", "bad_xml"),
        (b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'><article><body><p>x</p></body></article>", "x"),
        (b"<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><article><body><p>x&e;y</p></body></article>", "xy"),
        (b"<!DOCTYPE a [<!ENTITY b 'q'>]><article><body><p>x&eacute;&b;y</p></body></article>", "x\u00e9y"),
        (b"<article><body><p>" + b"a" * LIMITS.record + b"</p></body></article>", "too_large"),
        (gzip.compress(b" " * 50_000_000), "too_large"),
        (gzip.compress(DOCTYPE + PAPER)[:-200], "damaged_compression"),
    ],
    ids="empty cut html nested laughs attribute system external named large bomb damaged".split(),
)
def test_hostile_papers_are_read_or_have_a_reason(tmp_path: Path, body: bytes, told: str) -> None:
    assert shown(read(tmp_path / "a.xml", body)) == [told]
