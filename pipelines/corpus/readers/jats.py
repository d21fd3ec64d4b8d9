"""Reading JATS XML (NISO Z39.96), as PubMed Central publishes papers: a file is a paper, or a set of them.

The offset is the paper's number in the file and the digest is that of the file's bytes. The URL is that of the DOI,
else of PubMed Central; the crawl time is the day of publication; the licence is the one that the permissions link to,
by its SPDX identifier where it is a Creative Commons one. Text is the title, the abstracts and the body: no
references, no tables, and no TeX beside a formula's MathML.
"""

from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from pipelines.corpus.readers.inflate import is_plain, pieces
from pipelines.corpus.readers.licences import licence_of_url
from pipelines.corpus.readers.markup import BadXml, block_text, local, parsed_xml
from pipelines.corpus.readers.records import Dropped, Limits, Record, digest_of, storable, utc
from pipelines.corpus.readers.whole_file import read_whole

BLOCKS = frozenset(
    "abstract ack app article-title attrib body boxed-text caption def def-list disp-formula disp-quote fig fn "
    "fn-group list list-item p sec statement subtitle supplementary-material term title trans-title verse-group "
    "verse-line preformat".split()
)
SKIPPED = frozenset("ref-list table tex-math graphic media object-id table-wrap-foot".split())
AS_IS = frozenset({"preformat"})
HREF = "{http://www.w3.org/1999/xlink}href"
PMC = "https://www.ncbi.nlm.nih.gov/pmc/articles/"


def jats_records(path: Path, limits: Limits) -> Iterator[Record | Dropped]:
    """Yield the papers of a file."""
    body = _unpacked(path, limits.record)
    if isinstance(body, Dropped):
        yield body
        return
    try:
        root = parsed_xml(body)
    except BadXml:
        yield Dropped(0, "bad_xml")
        return
    digest, articles = digest_of(body), list(root.iter("{*}article"))
    if not articles:
        yield Dropped(0, "not_jats")
    for number, article in enumerate(articles):
        yield _paper(article, number, digest)


def _unpacked(path: Path, max_bytes: int) -> bytes | Dropped:
    if is_plain(path):
        return read_whole(path, max_bytes)
    body = bytearray()
    for piece in pieces(path):
        body += piece.data
        if piece.broken:
            return Dropped(0, "damaged_compression")
        if len(body) > max_bytes:
            return Dropped(0, "too_large")
    return bytes(body)


def _paper(article: etree._Element, number: int, digest: str) -> Record:
    meta = article.find("{*}front/{*}article-meta")
    meta = article.find("{*}front-stub") if meta is None else meta
    parts: list[etree._Element] = []
    if meta is not None:
        parts += meta.iterfind("{*}title-group/{*}article-title")
        parts += [
            part for part in meta.iterchildren("{*}abstract", "{*}trans-abstract") if not part.get("abstract-type")
        ]
    parts += article.iterchildren("{*}body")
    texts = [block_text(part, blocks=BLOCKS, skipped=SKIPPED, kept_as_is=AS_IS) for part in parts]
    return Record(
        offset=number,
        digest=digest,
        url=_url(meta),
        crawl_time=_published(meta),
        content=storable("\n\n".join(text for text in texts if text)),
        is_html=False,
        licence=_licence(meta),
    )


def _url(meta: etree._Element | None) -> str:
    if meta is None:
        return ""
    ids = {found.get("pub-id-type"): (found.text or "").strip() for found in meta.iterchildren("{*}article-id")}
    if ids.get("doi"):
        return storable(f"https://doi.org/{ids['doi']}")
    central = ids.get("pmcid") or ids.get("pmc") or ""
    return storable(f"{PMC}PMC{central.removeprefix('PMC')}/") if central else ""


def _published(meta: etree._Element | None) -> str:
    """Return the first day of publication that the paper states, on paper or on line."""
    if meta is None:
        return ""
    days = [_day(found) for found in meta.iterchildren("{*}pub-date")]
    return min((day for day in days if day), default="")


def _day(date: etree._Element) -> str:
    year, month, day = ((date.findtext(f"{{*}}{part}") or "1").strip() for part in ("year", "month", "day"))
    if not (month.isdecimal() and day.isdecimal()):
        month = day = "1"
    return utc(f"{year:0>4}-{month:0>2}-{day:0>2}")


def _licence(meta: etree._Element | None) -> str:
    if meta is None:
        return ""
    for found in meta.iterfind("{*}permissions//{*}license"):
        for element in found.iter():
            address = element.get(HREF) or (element.text if local(element) == "license_ref" else "") or ""
            if address.strip():
                return licence_of_url(address.strip())
    return ""
