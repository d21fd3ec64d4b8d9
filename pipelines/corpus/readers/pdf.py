"""Reading the text layer of PDF: a file is a document.

PDFium reads it, in a child process that survives what a file may do to it. The offset is 0 and the digest is that of
the file's bytes; the URL is empty; the crawl time is when the file says that it was last changed, else created. Scans
without a text layer are counted as `no_text`: nothing is guessed from pictures.
"""

import re
from collections import Counter
from datetime import datetime
from functools import cache
from pathlib import Path

from pipelines.corpus.readers.isolated import ChildDied, Isolated
from pipelines.corpus.readers.records import Dropped, Limits, Record, digest_of, storable, utc
from pipelines.corpus.readers.whole_file import read_whole

MAGIC = b"%PDF-"
MAGIC_WITHIN = 1024
"""Readers accept a header anywhere in the first 1,024 bytes (ISO 32000-1, annex H.3.4.1)."""
PASSWORD = 4
"""PDFium's FPDF_ERR_PASSWORD."""
MIN_CHARS_PER_PAGE = 8
"""Below this mean a file is a scan with page numbers."""
DATE = re.compile(r"D:(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:Z|([+-]\d\d)'?(\d\d)?'?)?")
FULL_LINE = 0.75
"""Share of a page's usual line length from which a line is taken to go on in the next one."""
RUNNING = 0.5
"""Share of pages on which the same first or last line is a running title."""
MIN_PAGES = 4
ITEM = re.compile(r"[•‣◦▪●*\u2013-] |\(?\d{1,3}[.)] ")
"""How an item of a list begins, which no line before it flows into."""
DIGITS = re.compile(r"\d+")


def pdf_record(path: Path, max_pages: int, cpu_seconds: int, limits: Limits) -> Record | Dropped:
    """Return the text of a file's pages, lines joined to paragraphs and running titles left out."""
    body = read_whole(path, limits.record)
    if isinstance(body, Dropped):
        return body
    if MAGIC not in body[:MAGIC_WITHIN]:
        return Dropped(0, "mislabelled")
    try:
        found = _reader(cpu_seconds)(str(path), max_pages, limits.record)
    except ChildDied as died:
        return Dropped(0, died.reason)
    if "reason" in found:
        return Dropped(0, found["reason"])
    pages = [storable(page) for page in found["pages"]]
    if sum(len(page.strip()) for page in pages) < MIN_CHARS_PER_PAGE * len(pages):
        return Dropped(0, "no_text")
    return Record(
        offset=0,
        digest=digest_of(body),
        url="",
        crawl_time=pdf_time(found["date"]),
        content=flowing(pages),
        is_html=False,
    )


@cache
def _reader(cpu_seconds: int) -> Isolated:
    return Isolated(read_pages, cpu_seconds)


def read_pages(path: str, max_pages: int, max_chars: int) -> dict[str, object]:
    """Return the pages' text and the file's date, or the reason why there is none; runs in the child."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        return {"reason": "encrypted" if error.err_code == PASSWORD else "damaged"}
    if len(document) > max_pages:
        return {"reason": "too_many_pages"}
    pages, chars = [], 0
    for number in range(len(document)):
        try:
            page = document[number]
            layer = page.get_textpage()
            pages.append(layer.get_text_bounded())
        except pypdfium2.PdfiumError:
            return {"reason": "damaged"}
        layer.close()
        page.close()
        chars += len(pages[-1])
        if chars > max_chars:
            return {"reason": "too_large"}
    metadata = document.get_metadata_dict()
    return {"pages": pages, "date": metadata.get("ModDate") or metadata.get("CreationDate") or ""}


def pdf_time(date: str) -> str:
    """Return a date of PDF (ISO 32000-1, 7.9.4) in UTC, or an empty string for what is none."""
    found = DATE.match(date)
    if not found:
        return ""
    parts = [int(part or default) for part, default in zip(found.groups()[:6], (1, 1, 1, 0, 0, 0), strict=True)]
    try:
        moment = datetime(*parts).isoformat()  # type: ignore[arg-type]
    except ValueError:
        return ""
    return utc(f"{moment}{found[7]}:{found[8] or '00'}" if found[7] else moment)


def flowing(pages: list[str]) -> str:
    """Return the pages as one text: a paragraph a line, words whole that were divided at the end of a line."""
    lines = [_lines(page) for page in pages]
    running = {place: _running(lines, place) for place in (0, -1)}
    kept: list[str] = []
    for page in lines:
        for place in (-1, 0):
            if page and _shape(page[place]) in running[place]:
                del page[place]
        kept += _paragraphs(page)
    return "\n".join(kept)


def _lines(page: str) -> list[str]:
    """Return the lines of a page; PDFium writes U+0002 or U+FFFE for the hyphen of a divided word."""
    whole = re.sub("[\x02\ufffe](?:\r?\n)?", "", page)
    return [line for line in (" ".join(part.split()) for part in re.split(r"[\r\n]+", whole)) if line]


def _running(pages: list[list[str]], place: int) -> set[str]:
    if len(pages) < MIN_PAGES:
        return set()
    shapes = Counter(_shape(page[place]) for page in pages if page)
    return {shape for shape, count in shapes.items() if count > RUNNING * len(pages)}


def _shape(line: str) -> str:
    return DIGITS.sub("0", line)


def _paragraphs(lines: list[str]) -> list[str]:
    lengths = sorted(len(line) for line in lines)
    usual = lengths[int(0.9 * (len(lengths) - 1))] if lengths else 0
    paragraphs: list[list[str]] = []
    goes_on = False
    for line in lines:
        if goes_on and not ITEM.match(line):
            paragraphs[-1].append(line)
        else:
            paragraphs.append([line])
        goes_on = len(line) >= FULL_LINE * usual
    return [" ".join(paragraph) for paragraph in paragraphs]
