"""Sources whose files are one document each: HTML pages, plain text, EPUB books, PDF and JATS papers."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from pipelines.corpus.readers.records import Dropped, Limits, Record
from pipelines.corpus.sources.base import FileSource
from pipelines.corpus.sources.byte_shards import Slice

HTML = (".html", ".htm", ".xhtml")
TEXT = (".txt", ".text", ".md", ".markdown")
JATS = (".nxml", ".xml", ".nxml.gz", ".xml.gz")


class HtmlSource(FileSource):
    """Saved web pages."""

    model_config = ConfigDict(title="HTML")
    suffixes: ClassVar[tuple[str, ...]] = HTML
    document_per_file: ClassVar[bool] = True
    kind: Literal["html"] = Field("html", description="One page a file; its main text becomes a document")

    def records(self, piece: Slice, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield the page that a file holds."""
        from pipelines.corpus.readers.html_files import html_record

        yield html_record(piece.path, limits)


class TextSource(FileSource):
    """Plain text and Markdown."""

    model_config = ConfigDict(title="Text")
    suffixes: ClassVar[tuple[str, ...]] = TEXT
    document_per_file: ClassVar[bool] = True
    kind: Literal["text"] = Field("text", description="One document a file, of any charset; taken as it is")

    def records(self, piece: Slice, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield the text that a file holds."""
        from pipelines.corpus.readers.text_files import text_record

        yield text_record(piece.path, limits)


class EpubSource(FileSource):
    """Books in EPUB."""

    model_config = ConfigDict(title="EPUB")
    suffixes: ClassVar[tuple[str, ...]] = (".epub",)
    document_per_file: ClassVar[bool] = True
    states_licence: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("lxml",)
    kind: Literal["epub"] = Field("epub", description="One book a file: the text of its chapters in reading order")

    def records(self, piece: Slice, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield the book that a file holds."""
        from pipelines.corpus.readers.epub import epub_record

        yield epub_record(piece.path, limits)


class PdfSource(FileSource):
    """Papers and books in PDF, by their text layer."""

    model_config = ConfigDict(title="PDF")
    suffixes: ClassVar[tuple[str, ...]] = (".pdf",)
    document_per_file: ClassVar[bool] = True
    extra: ClassVar[str] = "papers"
    libraries: ClassVar[tuple[str, ...]] = ("pypdfium2",)
    kind: Literal["pdf"] = Field("pdf", description="One document a file: its text layer, lines joined to paragraphs")
    max_pages: int = Field(2_000, ge=1, le=100_000, description="Files of more pages are dropped")
    max_cpu_seconds: int = Field(
        60, ge=1, le=3_600, description="CPU time, not wall-clock, after which a file is given up"
    )

    def records(self, piece: Slice, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield the document that a file holds."""
        from pipelines.corpus.readers.pdf import pdf_record

        yield pdf_record(piece.path, self.max_pages, self.max_cpu_seconds, limits)


class JatsSource(FileSource):
    """Papers in the Journal Article Tag Suite's XML, as PubMed Central gives them."""

    model_config = ConfigDict(title="JATS")
    suffixes: ClassVar[tuple[str, ...]] = JATS
    document_per_file: ClassVar[bool] = True
    states_licence: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("lxml",)
    kind: Literal["jats"] = Field("jats", description="One paper a file: title, abstract and body without references")

    def records(self, piece: Slice, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield the papers that a file holds, mostly one."""
        from pipelines.corpus.readers.jats import jats_records

        return jats_records(piece.path, limits)
