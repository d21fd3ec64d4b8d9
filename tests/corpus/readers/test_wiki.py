"""MediaWiki dumps: pages by namespace as plain text, each cut whole from the stream or counted with a reason."""

import bz2
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from pipelines.corpus.readers.inflate import Piece
from pipelines.corpus.readers.records import Dropped, Limits, Record
from pipelines.corpus.readers.wiki import PageCutter, wiki_records
from pipelines.corpus.readers.wikitext import plain_text
from tests.corpus.sources_bench import LIMITS, shown

EXPORT = "http://www.mediawiki.org/xml/export-0.11/"
ARTICLE = """{{Infobox|name=Mill}}
'''Mühle''' ({{lang|la|mola}}) is a [[mill|building]]<ref>Somebody, 1999</ref> on [[water]].<!-- check -->
[[Datei:Mill.jpg|thumb|A mill [[nested]]]]
__NOTOC__
== History ==
* ''first'' item
* second &amp; last [http://a.example/ site]

=== Empty ===
{| class="wikitable"
| cell
|}
== References ==
<references/>
[[Kategorie:Mills]]"""
TOLD = "Mill & Wheel\n\nMühle is a building on water.\n\nHistory\n\n- first item\n- second & last site"


def page(title: str, text: str | None, *, ns: int = 0, redirect: str = "", model: str = "wikitext") -> etree._Element:
    found = etree.Element("page")
    for name, value in (("title", title), ("ns", str(ns)), ("id", "7")):
        etree.SubElement(found, name).text = value
    if redirect:
        etree.SubElement(found, "redirect", title=redirect)
    for stamp, body in (("2024-02-03T04:05:06Z", text), ("2001-01-01T00:00:00Z", "an older text")):
        revision = etree.SubElement(found, "revision")
        etree.SubElement(revision, "timestamp").text = stamp
        etree.SubElement(revision, "model").text = model
        if body is not None:
            etree.SubElement(revision, "text", {"{http://www.w3.org/XML/1998/namespace}space": "preserve"}).text = body
    return found


def dump(*pages: etree._Element) -> bytes:
    """Return a dump as MediaWiki exports it, with the site's own words for its namespaces."""
    root = etree.Element("mediawiki", nsmap={None: EXPORT}, version="0.11")
    site = etree.SubElement(root, "siteinfo")
    etree.SubElement(site, "base").text = "https://de.wiki.example/wiki/Hauptseite"
    spaces = etree.SubElement(site, "namespaces")
    for key, name in ((-2, "Medium"), (0, None), (6, "Datei"), (14, "Kategorie")):
        etree.SubElement(spaces, "namespace", key=str(key), case="first-letter").text = name
    for found in pages:
        root.append(found)
    return bytes(etree.tostring(root, encoding="utf-8", pretty_print=True))


DUMP = dump(
    page("Mill & Wheel", ARTICLE),
    page("Mühle", "#REDIRECT [[Mill]]", redirect="Mill"),
    page("Talk:Mill", "a talk", ns=1),
    page("Style", "a {color:red}", model="css"),
    page("Hollow", "{{only a template}}"),
    page("River", "It is ''wet''."),
)
WANTED = [TOLD, "redirect", "namespace", "not_wikitext", "no_text", "River\n\nIt is wet."]


def read(path: Path, body: bytes, limits: Limits = LIMITS) -> list[Record | Dropped]:
    path.write_bytes(body)
    return list(wiki_records(path, frozenset({0}), 5, limits))


@pytest.mark.parametrize("pack", [bytes, bz2.compress, gzip.compress], ids=["xml", "bz2", "gz"])
def test_a_dump_is_its_articles_and_counts_the_rest(tmp_path: Path, pack: type[bytes]) -> None:
    records = read(tmp_path / "dump.xml", pack(DUMP))
    assert shown(records) == WANTED
    first = records[0]
    assert isinstance(first, Record)
    assert first.url == "https://de.wiki.example/wiki/Mill_%26_Wheel"
    assert first.crawl_time == "2024-02-03T04:05:06Z"
    assert DUMP[first.offset :].startswith(b"<page>")


def test_a_dump_of_many_streams_survives_one_that_is_damaged(tmp_path: Path) -> None:
    cut = [DUMP.index(b"<page>"), DUMP.index(b"<title>Talk"), DUMP.index(b"<title>Hollow")]
    parts = [DUMP[: cut[0]], DUMP[cut[0] : cut[1] - 11], DUMP[cut[1] - 11 : cut[2] - 11], DUMP[cut[2] - 11 :]]
    streams = [bz2.compress(part) for part in parts]
    assert shown(read(tmp_path / "a.bz2", b"".join(streams))) == WANTED
    streams[2] = streams[2][:60] + b"\0\0\0\0" + streams[2][64:]
    assert shown(read(tmp_path / "b.bz2", b"".join(streams))) == [*WANTED[:2], "damaged_compression", *WANTED[4:]]


def test_a_page_that_is_cut_or_malformed_costs_only_itself(tmp_path: Path) -> None:
    malformed = DUMP.replace(b"<title>Talk:Mill</title>", b"<title>Talk:Mill<title>")
    assert shown(read(tmp_path / "a.xml", malformed)) == [*WANTED[:2], "bad_xml", *WANTED[3:]]
    unended = DUMP.replace(b"</page>", b"", 1)
    assert shown(read(tmp_path / "b.xml", unended)) == ["truncated", *WANTED[1:]]
    assert shown(read(tmp_path / "c.xml", DUMP[: DUMP.index(b"It is")])) == [*WANTED[:5], "truncated"]
    assert shown(read(tmp_path / "d.xml", DUMP[: DUMP.index(b"</mediawiki>")])) == [*WANTED, "truncated"]


def test_what_is_no_dump_has_a_reason(tmp_path: Path) -> None:
    for name, body, reason in [
        ("a", b"", "empty_file"),
        ("b", b"<article><body/></article>", "not_a_dump"),
        ("c", bz2.compress(b"\0" * 80_000_000), "damaged_compression"),
    ]:
        assert reason in shown(read(tmp_path / name, body))


def test_a_page_over_the_limit_is_passed_over_in_bounded_memory(tmp_path: Path) -> None:
    large = dump(page("Large", "a" * 900_000), page("River", "It is ''wet''."))
    small = Limits(record=10_000, page=10_000)
    assert shown(read(tmp_path / "a.xml", large, small)) == ["too_large", "River\n\nIt is wet."]
    cutter = PageCutter((Piece(large[at : at + 4_096]) for at in range(0, len(large), 4_096)), 10_000)
    assert max(len(cutter._held) for _ in cutter.pages()) < 20_000


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"<page>", b"</page>", b"</mediawiki>"])), st.integers(1, 9))
def test_where_the_pieces_end_changes_nothing(parts: list[bytes], size: int) -> None:
    whole = b"".join(parts)

    def pieces(step: int) -> Iterator[Piece]:
        return (Piece(whole[at : at + step]) for at in range(0, len(whole), step))

    assert list(PageCutter(pieces(size), 100).pages()) == list(PageCutter(pieces(10_000), 100).pages())


@pytest.mark.parametrize(
    "wikitext",
    ["{{" * 20_000, "[[" * 20_000, "'''''" * 5_000, "<ref>" * 1_000, "{|" * 5_000, "[[a|" * 3_000 + "]]" * 3_000],
)
def test_hostile_wikitext_is_text_in_the_end(wikitext: str) -> None:
    assert isinstance(plain_text(wikitext, ["file"]), str)
