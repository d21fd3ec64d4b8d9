"""Where documents come from: the kinds of source, told apart by their `kind` or by the form of a URI."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import readable, source_files
from pipelines.artifacts.stage import StageConfig
from pipelines.corpus.crawler.sources import CRAWL_NAME, CommonCrawlSource, CrawlSource
from pipelines.corpus.readers.records import Dropped, Limits, Record
from pipelines.corpus.sources.base import FileSource, Source
from pipelines.corpus.sources.books import EpubSource, HtmlSource, JatsSource, PdfSource, TextSource
from pipelines.corpus.sources.byte_shards import Slice
from pipelines.corpus.sources.code import CodeSource
from pipelines.corpus.sources.hub import HUB, HubSource
from pipelines.corpus.sources.rows import ConversationsSource, JsonlSource, ParquetSource
from pipelines.corpus.sources.sniffing import first_row, xml_root
from pipelines.corpus.sources.wiki import WikiSource

WARC = (".warc", ".warc.gz", ".warc.zst", ".warc.lz4", ".arc", ".arc.gz")
WET = (".wet", ".wet.gz", ".wet.zst")


class DocsSource(StageConfig):
    """Documentation of installed packages, as the examples stage harvests it, rendered to a small crawl."""

    model_config = ConfigDict(title="Docs of packages")
    kind: Literal["docs"] = Field("docs", description="Pages rendered from the objects of the examples stage")


class WarcSource(FileSource):
    """A web crawl."""

    model_config = ConfigDict(title="WARC")
    suffixes: ClassVar[tuple[str, ...]] = WARC
    kind: Literal["warc"] = Field("warc", description="Web crawl; its HTML pages answered with 200 become documents")

    def records(self, piece: Slice, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield the pages of a crawl file."""
        from pipelines.corpus.readers.crawl_pages import crawl_pages

        return crawl_pages(piece.path, limits)


class WetSource(FileSource):
    """The text of a web crawl, as the crawl itself extracted it."""

    model_config = ConfigDict(title="WET")
    suffixes: ClassVar[tuple[str, ...]] = WET
    kind: Literal["wet"] = Field("wet", description="Text of a crawl's pages; it is taken as it is")

    def records(self, piece: Slice, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield the texts of a crawl file."""
        from pipelines.corpus.readers.wet import wet_records

        return wet_records(piece.path, limits)


FILE_SOURCES: tuple[type[FileSource], ...] = (
    WarcSource,
    WetSource,
    JsonlSource,
    ParquetSource,
    HtmlSource,
    TextSource,
    EpubSource,
    PdfSource,
    WikiSource,
    JatsSource,
)
"""Kinds that the name of a file tells; JSON lines and XML share endings and are looked into."""
DATA = frozenset({WarcSource, WetSource, JsonlSource, ParquetSource, ConversationsSource})
TELLING: tuple[type[FileSource], ...] = (*FILE_SOURCES, CodeSource)
BY_NAME: tuple[type[FileSource], ...] = (*TELLING, ConversationsSource)
PREFIXED = {str(kind.model_fields["kind"].default): kind for kind in BY_NAME}
SUPPORTED = (
    f"name docs:, {HUB}OWNER/NAME@REVISION, a crawl of Common Crawl as CC-MAIN-2026-30, or a file, folder or glob of "
    + ", ".join(PREFIXED)
)


def source_from_uri(uri: str) -> "DocsSource | Source":
    """Return the source that a URI names by its form or by `KIND:`; raise UserError saying what is supported."""
    if uri in ("docs", "docs:"):
        return DocsSource()
    if uri.startswith(HUB):
        return HubSource.from_uri(uri)
    if re.match(CRAWL_NAME, uri):
        return CommonCrawlSource(crawl=uri)
    prefix, colon, rest = uri.partition(":")
    if colon and prefix in PREFIXED and rest:
        return PREFIXED[prefix](path=_path(rest))
    text = uri.removeprefix("file://")
    if "://" in text or not text:
        raise UserError(f"ingest.source: {uri!r} is no source this machine can read; {SUPPORTED}")
    path = _path(text)
    with readable(text, "ingest.source"):
        is_folder = path.is_dir()
    if not is_folder:
        for kind in FILE_SOURCES:
            if text.lower().endswith(kind.suffixes):
                return _told(kind, path)(path=path)
    return _by_content(path, uri)


def _path(text: str) -> Path:
    return Path(text.removeprefix("file://")).expanduser()


def _by_content(path: Path, uri: str) -> FileSource:
    """Return the one kind of source that a folder or a glob holds."""
    if path.is_file():
        raise UserError(f"ingest.source: {uri!r} is of no supported kind; {SUPPORTED}")
    files = source_files(path, tuple(suffix for kind in TELLING for suffix in kind.suffixes), "ingest.source")
    held: list[type[FileSource]] = []
    for kind in TELLING:
        first = next((file for name, file in files.items() if name.lower().endswith(kind.suffixes)), None)
        told = first and _told(kind, first)
        if told and told not in held:
            held.append(told)
    if DATA.intersection(held):  # notes and scripts beside data are no part of it
        held = [kind for kind in held if kind not in (TextSource, CodeSource)]
    if len(held) > 1:
        names = sorted(kind.model_fields["kind"].default for kind in held)
        raise UserError(
            f"ingest.source: {uri!r} holds {' and '.join(names)} files; name one kind by a glob, such as "
            f"{uri}/*{held[0].suffixes[0]}, or by a prefix, such as {names[0]}:{uri}"
        )
    return held[0](path=path)


def _told(kind: type[FileSource], file: Path) -> type[FileSource]:
    """Return the kind that a file of a shared ending is by what it holds."""
    if kind is JsonlSource and file.is_file():
        from pipelines.corpus.readers.conversations import has_turns

        return ConversationsSource if has_turns(first_row(file)) else JsonlSource
    if kind in (WikiSource, JatsSource) and file.is_file():
        return WikiSource if xml_root(file) == "mediawiki" else JatsSource
    return kind


def _from_text(value: Any) -> Any:
    return source_from_uri(value) if isinstance(value, str) else value


SourceConfig = Annotated[
    Annotated[
        DocsSource
        | WarcSource
        | WetSource
        | JsonlSource
        | ParquetSource
        | ConversationsSource
        | HtmlSource
        | TextSource
        | EpubSource
        | PdfSource
        | JatsSource
        | CodeSource
        | WikiSource
        | HubSource
        | CrawlSource
        | CommonCrawlSource,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_from_text),
]
