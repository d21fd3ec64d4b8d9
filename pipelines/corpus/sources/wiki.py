"""Wikis as MediaWiki dumps them."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from pipelines.corpus.readers.records import Dropped, Limits, Record
from pipelines.corpus.sources.base import FileSource
from pipelines.corpus.sources.byte_shards import Slice

WIKI = (".xml", ".xml.bz2", ".xml.gz", ".xml.zst")


class WikiSource(FileSource):
    """XML dumps of a wiki."""

    model_config = ConfigDict(title="Wiki")
    suffixes: ClassVar[tuple[str, ...]] = WIKI
    extra: ClassVar[str] = "wiki"
    libraries: ClassVar[tuple[str, ...]] = ("lxml", "mwparserfromhell")
    kind: Literal["wiki"] = Field("wiki", description="One document a page of the namespaces, its wikitext as text")
    namespaces: tuple[int, ...] = Field((0,), min_length=1, description="Namespaces whose pages are kept; 0: articles")
    max_cpu_seconds: int = Field(
        10, ge=1, le=3_600, description="CPU time, not wall-clock, after which a page is given up"
    )

    def records(self, piece: Slice, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield the pages of a dump, the latest revision that it holds of each."""
        from pipelines.corpus.readers.wiki import wiki_records

        return wiki_records(piece.path, frozenset(self.namespaces), self.max_cpu_seconds, limits)
