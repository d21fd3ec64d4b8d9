"""The stage that turns a crawl, or files of text, into documents with their provenance."""

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.artifacts.stage import Metrics, Stage
from pipelines.corpus.crawler.sources import CommonCrawlSource, CrawlSource
from pipelines.corpus.execution import ShardedConfig
from pipelines.corpus.sources.base import Source
from pipelines.corpus.sources.kinds import DocsSource, SourceConfig, WarcSource

MEGABYTE = 1_000_000


class IngestConfig(ShardedConfig):
    """What is read and what becomes of it."""

    model_config = ConfigDict(title="Ingest")

    source: SourceConfig = Field(DocsSource(), description="Where documents come from; a URI chooses the kind")
    extractor: Literal["fast", "quality"] = Field(
        "fast", description="Main text by Resiliparse (fast) or by Trafilatura (quality, about a tenth of the speed)"
    )
    max_record_bytes: int = Field(
        64 * MEGABYTE,
        ge=1_000,
        le=1_000 * MEGABYTE,
        description="Larger WARC records, JSON lines, wiki pages, books and papers are dropped; counted decompressed",
    )
    max_page_bytes: int = Field(
        4 * MEGABYTE,
        ge=1_000,
        le=100 * MEGABYTE,
        description="Larger web pages and source files are dropped; counted decompressed",
    )
    max_text_bytes: int = Field(
        MEGABYTE, ge=1_000, le=100 * MEGABYTE, description="Documents with more text than this are dropped"
    )
    shard_bytes: int = Field(
        16 * MEGABYTE,
        ge=1_000,
        le=100_000 * MEGABYTE,
        description="Work is shared out in shards of about this many bytes, a part each; a compressed byte counts as 5",
    )
    max_page_cpu_seconds: float = Field(
        60, gt=0, le=3_600, description="CPU time of one page, far above what a page that passes by its form takes"
    )
    max_page_memory_bytes: int = Field(
        4_000 * MEGABYTE, ge=500 * MEGABYTE, le=64_000 * MEGABYTE, description="Address space of the extracting process"
    )
    max_documents: int | None = Field(None, ge=1, description="Keep only the first documents, in file order")


def ingest(config: IngestConfig, *, objects: Path | None = None, out: Path) -> Metrics:
    """Write the documents of the source, a part a shard, and list what was lost and why."""
    from pipelines.corpus.documented.pages import write_crawl
    from pipelines.corpus.extraction import PageLimits
    from pipelines.corpus.intake import Intake, keep_first, merge_errors
    from pipelines.corpus.readers.records import Limits
    from pipelines.corpus.shards import run_shards
    from pipelines.corpus.sources.byte_shards import shards_of

    fetched: dict[str, int] = {}
    if isinstance(config.source, DocsSource):
        if objects is None:
            raise UserError("ingest.source: docs needs the objects of the examples stage; examples.source must be docs")
        source: Source = WarcSource(path=out / "crawl")
        files = {path.name: path for path in write_crawl(objects, out / "crawl", out)}
    elif isinstance(config.source, CrawlSource):
        from pipelines.corpus.crawler.crawl import crawl

        crawled = crawl(config.source, out)
        source = WarcSource(path=out / "crawl")
        files, fetched = {path.name: path for path in crawled.files}, crawled.counts
    elif isinstance(config.source, CommonCrawlSource):
        from pipelines.corpus.crawler.commoncrawl import chosen_files

        source, files = config.source, chosen_files(config.source, out)
    else:
        source = config.source
        source.refuse_own_output(out)
        files = source.files()
    shards = shards_of(source, files, config.shard_bytes)
    intake = Intake(
        source=source,
        shards=shards,
        out=out,
        extractor=config.extractor,
        limits=Limits(record=config.max_record_bytes, page=config.max_page_bytes),
        page_limits=PageLimits(config.max_page_cpu_seconds, config.max_page_memory_bytes),
        max_text_bytes=config.max_text_bytes,
        max_documents=config.max_documents,
    )
    counts = {"in": 0, "kept": 0} | run_shards(
        intake.take_in, len(shards), out=out, workers=config.workers, what="ingest", execution=config
    )
    merge_errors(out, len(shards))
    if config.max_documents is not None:
        counts = keep_first(out, config.max_documents, counts, intake.schema)
    counts |= {name: counts.get(name, 0) + count for name, count in fetched.items()}
    dropped = sorted(name for name in counts if name.startswith("dropped."))
    if not counts["kept"]:
        told = {name.removeprefix("dropped."): counts[name] for name in ("in", "kept", *dropped)}
        wrong_field = counts.get("dropped.no_text") == counts["in"] and "text_field" in type(source).model_fields
        remedy = "set ingest.source.text_field to the field that holds the text" if wrong_field else "check the source"
        raise EmptyOutput("ingest", told, remedy)
    return {name: float(counts[name]) for name in sorted(counts)}


INGEST = Stage(
    "ingest",
    version=3,
    run=ingest,
    libraries=("fastwarc", "resiliparse", "trafilatura", "lxml", "orjson", "pyarrow"),
    resumable=True,
)
