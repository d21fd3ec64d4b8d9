"""What the tests of sources share: one ingestion, and real files made by the libraries that write them."""

import gc
import warnings
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import mkepub
from datatrove.data import Document

from pipelines.artifacts.stage import Metrics
from pipelines.corpus.documents import read_documents
from pipelines.corpus.ingest import IngestConfig, ingest
from pipelines.corpus.readers.records import Dropped, Limits, Record

LIMITS = Limits(record=5_000_000, page=1_000_000)
PROSE = "The miller ground the corn of the whole valley, and no one asked him what the river thought of it. "


def ingested(source: object, out: Path, **fields: object) -> tuple[Metrics, list[Document]]:
    """Ingest and return the counts, which must add up, and the documents."""
    config = IngestConfig.model_validate({"source": source if isinstance(source, dict) else str(source), **fields})
    metrics = ingest(config, out=out)
    assert metrics["in"] == metrics["kept"] + sum(n for name, n in metrics.items() if name.startswith("dropped."))
    return metrics, list(read_documents(out / "documents"))


def shown(found: Sequence[Record | Dropped]) -> list[str]:
    """Return the reasons of what was dropped, and the text of what was kept."""
    return [item.reason if isinstance(item, Dropped) else item.content for item in found]


def write_pdf(path: Path, pages: list[list[str]]) -> None:
    """Write a PDF with a text layer, a line at each place of a page, as matplotlib sets it."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    with rc_context({"pdf.fonttype": 42}), PdfPages(path, metadata={"CreationDate": None}) as file:
        for lines in pages:
            figure = Figure(figsize=(8, 11))
            for number, line in enumerate(lines):
                figure.text(0.1, 0.95 - 0.03 * number, line, fontsize=9)
            file.savefig(figure)


def write_epub3(path: Path, title: str, chapters: dict[str, str]) -> None:
    """Write an EPUB 3 of these chapters by mkepub, which leaves its temporary folder to the collector."""
    book = mkepub.Book(title=title, author="A. Writer", language="en")
    for name, body in chapters.items():
        book.add_page(name, body)
    book.save(path)
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        del book
        gc.collect()


OPF = """<?xml version="1.0"?>
<package xmlns="http://www.idpf.org/2007/opf" version="2.0" unique-identifier="id">
  <metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
    <dc:title>Two chapters</dc:title><dc:identifier id="id">urn:isbn:9780000000002</dc:identifier>
    <dc:date>1998-05</dc:date><dc:rights>https://creativecommons.org/licenses/by-sa/4.0/</dc:rights>
  </metadata>
  <manifest>{items}</manifest>
  <spine>{refs}</spine>
</package>"""
CONTAINER = """<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""


def write_epub2(path: Path, chapters: dict[str, bytes], more: dict[str, bytes] | None = None) -> None:
    """Write an EPUB 2 of these chapters, in this order, and more files."""
    items = "".join(
        f'<item id="i{n}" href="{name}" media-type="application/xhtml+xml"/>' for n, name in enumerate(chapters)
    )
    refs = "".join(f'<itemref idref="i{number}"/>' for number in range(len(chapters)))
    with ZipFile(path, "w", ZIP_DEFLATED) as book:
        book.writestr("mimetype", "application/epub+zip", compress_type=0)
        book.writestr("META-INF/container.xml", CONTAINER)
        book.writestr("OEBPS/book.opf", OPF.format(items=items, refs=refs))
        for name, body in (chapters | (more or {})).items():
            book.writestr(name if "/" in name else f"OEBPS/{name}", body)
