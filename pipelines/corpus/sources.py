"""Where documents come from: one config a kind of source, told apart by its `kind` or by the form of a URI."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import FileRoot, Root, source_files
from pipelines.artifacts.stage import StageConfig

WARC = (".warc", ".warc.gz", ".warc.zst", ".warc.lz4", ".arc", ".arc.gz")
WET = (".wet", ".wet.gz", ".wet.zst")
JSONL = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".json.gz")
PARQUET = (".parquet",)
SUPPORTED = (
    "name docs:, or a file, folder or glob of .warc[.gz|.zst|.lz4], .arc[.gz], .wet[.gz|.zst], .jsonl[.gz|.zst], "
    ".json.gz or .parquet"
)


class DocsSource(StageConfig):
    """Documentation of installed packages, as the examples stage harvests it, rendered to a small crawl."""

    model_config = ConfigDict(title="Documentation of installed packages")
    kind: Literal["docs"] = Field("docs", description="Pages rendered from the objects of the examples stage")


class FileSource(StageConfig):
    """Files on this machine, whose content enters the key and whose place does not."""

    pinned: ClassVar[frozenset[str]] = frozenset({"path"})
    suffixes: ClassVar[tuple[str, ...]]
    path: Path = Field(description="A file, a folder (searched in depth) or a glob")

    def files(self) -> dict[str, Path]:
        """Return the files by their names inside the source, in order; raise UserError when there is none."""
        return source_files(self.path, self.suffixes)

    def roots(self) -> Mapping[str, Root]:
        """Return the files as an input pinned by content."""
        return {"path": FileRoot(self.files())}


class WarcSource(FileSource):
    """A web crawl."""

    model_config = ConfigDict(title="WARC and ARC files")
    suffixes: ClassVar[tuple[str, ...]] = WARC
    kind: Literal["warc"] = Field("warc", description="Web crawl; its HTML pages answered with 200 become documents")


class WetSource(FileSource):
    """The text of a web crawl, as the crawl itself extracted it."""

    model_config = ConfigDict(title="WET files")
    suffixes: ClassVar[tuple[str, ...]] = WET
    kind: Literal["wet"] = Field("wet", description="Text of a crawl's pages; it is taken as it is")


class JsonlSource(FileSource):
    """Text in JSON objects, one a line."""

    model_config = ConfigDict(title="JSON lines")
    suffixes: ClassVar[tuple[str, ...]] = JSONL
    kind: Literal["jsonl"] = Field("jsonl", description="One JSON object a line; its text is taken as it is")
    text_field: str = Field("text", min_length=1, description="Field that holds the text")
    url_field: str = Field("url", description="Field that holds the URL, where there is one")


class ParquetSource(FileSource):
    """Text in a column of a table."""

    model_config = ConfigDict(title="Parquet files")
    suffixes: ClassVar[tuple[str, ...]] = PARQUET
    kind: Literal["parquet"] = Field("parquet", description="One row a document; its text is taken as it is")
    text_field: str = Field("text", min_length=1, description="Column that holds the text")
    url_field: str = Field("url", description="Column that holds the URL, where there is one")


FILE_SOURCES: tuple[type[WarcSource] | type[WetSource] | type[JsonlSource] | type[ParquetSource], ...] = (
    WarcSource,
    WetSource,
    JsonlSource,
    ParquetSource,
)


def source_from_uri(uri: str) -> "DocsSource | FileSource":
    """Return the source that a URI names by its form; raise UserError saying what is supported."""
    if uri in ("docs", "docs:"):
        return DocsSource()
    text = uri.removeprefix("file://")
    if "://" in text or not text:
        raise UserError(f"ingest.source: {uri!r} is no source this machine can read; {SUPPORTED}")
    path = Path(text).expanduser()
    for kind in FILE_SOURCES:
        if text.lower().endswith(kind.suffixes) and not path.is_dir():
            return kind(path=path)
    return _by_content(path, uri)


def _by_content(path: Path, uri: str) -> FileSource:
    """Return the one kind of source that a folder or a glob holds."""
    if path.is_file():
        raise UserError(f"ingest.source: {uri!r} is of no supported kind; {SUPPORTED}")
    files = source_files(path, WARC + WET + JSONL + PARQUET)
    held = [kind for kind in FILE_SOURCES if any(name.lower().endswith(kind.suffixes) for name in files)]
    if len(held) > 1:
        kinds = " and ".join(kind.model_fields["kind"].default for kind in held)
        raise UserError(f"ingest.source: {uri!r} holds {kinds} files; name one kind by a glob, such as {uri}/*.jsonl")
    return held[0](path=path)


def _from_text(value: Any) -> Any:
    return source_from_uri(value) if isinstance(value, str) else value


SourceConfig = Annotated[
    Annotated[DocsSource | WarcSource | WetSource | JsonlSource | ParquetSource, Field(discriminator="kind")],
    BeforeValidator(_from_text),
]
