"""The stage that turns a crawl, or files of text, into documents with their provenance."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.artifacts.stage import Metrics, Stage, StageConfig
from pipelines.corpus.crawler.sources import CommonCrawlSource, CrawlSource
from pipelines.corpus.sources import DocsSource, SourceConfig

MEGABYTE = 1_000_000


class IngestConfig(StageConfig):
    """What is read and what becomes of it."""

    model_config = ConfigDict(title="Ingest")
    runtime: ClassVar[frozenset[str]] = frozenset({"workers"})

    source: SourceConfig = Field(DocsSource(), description="Where documents come from; a URI chooses the kind")
    extractor: Literal["fast", "quality"] = Field(
        "fast", description="Main text by Resiliparse (fast) or by Trafilatura (quality, about a tenth of the speed)"
    )
    max_record_bytes: int = Field(
        64 * MEGABYTE, ge=1_000, le=1_000 * MEGABYTE, description="Larger WARC records and JSON lines are dropped"
    )
    max_page_bytes: int = Field(
        4 * MEGABYTE, ge=1_000, le=100 * MEGABYTE, description="Larger pages are dropped; counted decompressed"
    )
    max_text_bytes: int = Field(
        MEGABYTE, ge=1_000, le=100 * MEGABYTE, description="Documents with more text than this are dropped"
    )
    max_documents: int | None = Field(None, ge=1, description="Keep only the first documents, in file order")
    workers: int = Field(1, ge=1, le=1024, description="Processes; the result does not depend on it")


def ingest(config: IngestConfig, *, objects: Path | None = None, out: Path) -> Metrics:
    """Write the documents of the source, a part a file, and list what was lost and why."""
    from pipelines.corpus.intake import Intake, keep_first, merge_errors
    from pipelines.corpus.pages import write_crawl
    from pipelines.corpus.readers.records import Limits
    from pipelines.corpus.shards import run_shards

    fetched: dict[str, int] = {}
    if isinstance(config.source, DocsSource):
        if objects is None:
            raise UserError("ingest.source: docs needs the objects of the examples stage; examples.source must be docs")
        files = {path.name: path for path in write_crawl(objects, out / "crawl", out)}
    elif isinstance(config.source, CrawlSource):
        from pipelines.corpus.crawler.crawl import crawl

        crawled = crawl(config.source, out)
        files, fetched = {path.name: path for path in crawled.files}, crawled.counts
    elif isinstance(config.source, CommonCrawlSource):
        from pipelines.corpus.crawler.commoncrawl import chosen_files

        files = chosen_files(config.source, out)
    else:
        files = config.source.files()
    intake = Intake(
        source=config.source,
        files=tuple(files.items()),
        out=out,
        extractor=config.extractor,
        limits=Limits(record=config.max_record_bytes, page=config.max_page_bytes),
        max_text_bytes=config.max_text_bytes,
        max_documents=config.max_documents,
    )
    counts = {"in": 0, "kept": 0} | run_shards(
        intake.take_in, len(files), out=out, workers=config.workers, what="ingest"
    )
    merge_errors(out, len(files))
    if config.max_documents is not None:
        counts = keep_first(out, config.max_documents, counts)
    counts |= {name: counts.get(name, 0) + count for name, count in fetched.items()}
    dropped = sorted(name for name in counts if name.startswith("dropped."))
    if not counts["kept"]:
        raise EmptyOutput("ingest", {name.removeprefix("dropped."): counts[name] for name in ("in", "kept", *dropped)})
    return {name: float(counts[name]) for name in sorted(counts)}


INGEST = Stage(
    "ingest",
    version=1,
    run=ingest,
    libraries=("fastwarc", "resiliparse", "trafilatura", "lxml", "orjson", "pyarrow"),
    resumable=True,
)
