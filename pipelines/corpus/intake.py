"""One input file to one part of documents, with a row for each record that was lost."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from datatrove.data import Document

from pipelines.artifacts.work import atomic_file, progress_dir
from pipelines.corpus.crawler.sources import CommonCrawlSource, CrawlSource
from pipelines.corpus.crawler.wet import wet_texts
from pipelines.corpus.documents import (
    PROVENANCE,
    PartWriter,
    document_id,
    part_name,
    parts,
    read_documents,
    write_documents,
)
from pipelines.corpus.extract import Extractor, main_text, too_complex
from pipelines.corpus.readers.http_page import page_of
from pipelines.corpus.readers.jsonl import json_records
from pipelines.corpus.readers.records import Dropped, Limits, Record
from pipelines.corpus.readers.tables import parquet_records
from pipelines.corpus.readers.warc import RawRecord, raw_records
from pipelines.corpus.sources import DocsSource, JsonlSource, ParquetSource, WarcSource

ROWS_PER_REASON = 100
"""Rows that errors.jsonl lists of one reason; the counts are whole all the same."""
ORDINARY = frozenset({"warcinfo", "request", "metadata", "resource", "conversion", "continuation", "revisit"})
"""Records that a healthy crawl holds beside its pages; counted, and not listed as errors."""


@dataclass(frozen=True)
class Intake:
    """What all shards of an ingestion share; it is sent to worker processes."""

    source: DocsSource | WarcSource | JsonlSource | ParquetSource | CrawlSource | CommonCrawlSource
    files: tuple[tuple[str, Path], ...]
    out: Path
    extractor: Extractor
    limits: Limits
    max_text_bytes: int
    max_documents: int | None

    def take_in(self, index: int) -> dict[str, int]:
        """Write part `index` from file `index` and return its counts."""
        name, path = self.files[index]
        if isinstance(self.source, CommonCrawlSource):
            from pipelines.corpus.crawler.commoncrawl import fetch_file

            fetch_file(self.source, index, name, path, self.out)
        counts: Counter[str] = Counter({"in": 0, "kept": 0})
        errors = ErrorList(name)
        with PartWriter(self.out / "documents" / part_name(index), self.out, PROVENANCE) as writer:
            for item in self.items(path):
                dropped = item if isinstance(item, Dropped) else None
                if isinstance(item, Record):
                    found = self.document(item, name)
                    if isinstance(found, Document):
                        writer.write(found)
                        counts["text_bytes"] += len(found.text.encode())
                    else:
                        dropped = Dropped(item.offset, found)
                counts["in"] += dropped.count if dropped else 1
                counts["kept"] += 0 if dropped else 1
                if dropped:
                    counts[f"dropped.{dropped.reason}"] += dropped.count
                    errors.note(dropped)
                elif counts["kept"] == self.max_documents:
                    break
        with atomic_file(errors_path(self.out, index), self.out) as fresh:
            fresh.write_text("".join(json.dumps(row) + "\n" for row in errors.rows))
        return dict(counts)

    def items(self, path: Path) -> Iterable[Record | Dropped]:
        """Yield what a file holds, read as the kind of source says."""
        source = self.source
        if isinstance(source, JsonlSource):
            return json_records(path, source.text_field, source.url_field, self.limits)
        if isinstance(source, ParquetSource):
            return parquet_records(path, source.text_field, source.url_field)
        if isinstance(source, CommonCrawlSource) and source.format == "wet":
            return wet_texts(path, self.limits)
        return crawl_pages(path, self.limits)

    def document(self, record: Record, name: str) -> Document | str:
        """Return the record as a document, or the reason why it is none."""
        text = record.content
        if record.is_html:
            if too_complex(text, self.extractor):
                return "too_complex"
            text = main_text(text, self.extractor)
        if not text.strip():
            return "no_text" if record.is_html else "empty"
        if len(text.encode()) > self.max_text_bytes:
            return "too_large"
        return Document(
            text=text,
            id=document_id(record.digest, record.offset),
            metadata={
                "url": record.url,
                "source_uri": name,
                "record_offset": record.offset,
                "record_digest": record.digest,
                "crawl_time": record.crawl_time,
            },
        )


def crawl_pages(path: Path, limits: Limits) -> Iterator[Record | Dropped]:
    """Yield the pages of a WARC file; a second record of the same identifier is dropped."""
    if path.stat().st_size == 0:
        yield Dropped(0, "empty_file")
    seen: set[str] = set()
    for raw in raw_records(path, limits.record):
        yield page_of(raw, limits, seen) if isinstance(raw, RawRecord) else raw


class ErrorList:
    """The rows of one file's lost records, at most `ROWS_PER_REASON` of a reason."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: list[dict[str, str | int]] = []
        self._listed: Counter[str] = Counter()

    def note(self, dropped: Dropped) -> None:
        """List a lost record."""
        if dropped.reason in ORDINARY or self._listed[dropped.reason] >= ROWS_PER_REASON:
            return
        self._listed[dropped.reason] += 1
        row: dict[str, str | int] = {"file": self.name, "offset": dropped.offset, "reason": dropped.reason}
        self.rows.append(row | ({"skipped_bytes": dropped.skipped_bytes} if dropped.skipped_bytes else {}))


def errors_path(out: Path, index: int) -> Path:
    """Return where a shard leaves its error rows until all are merged."""
    return progress_dir(out) / "errors" / f"errors-{index:05d}.jsonl"


def merge_errors(out: Path, count: int) -> None:
    """Write `errors/errors.jsonl`: a row that states the cap, then the first rows of each reason in file order."""
    listed: Counter[str] = Counter()
    with atomic_file(out / "errors" / "errors.jsonl", out) as fresh, fresh.open("w") as merged:
        merged.write(json.dumps({"rows_per_reason_at_most": ROWS_PER_REASON}) + "\n")
        for index in range(count):
            for line in errors_path(out, index).read_text().splitlines():
                reason = json.loads(line)["reason"]
                listed[reason] += 1
                if listed[reason] <= ROWS_PER_REASON:
                    merged.write(line + "\n")


def keep_first(out: Path, limit: int, counts: dict[str, int]) -> dict[str, int]:
    """Shorten the parts so that the first `limit` documents are left, and return the counts that are then true."""
    left, counts = limit, dict(counts)
    for part in parts(out / "documents"):
        held = list(read_documents(part)) if left < pq.read_metadata(part).num_rows else None
        if held is None:
            left -= pq.read_metadata(part).num_rows
            continue
        over = held[left:]
        write_documents(part, out, PROVENANCE, held[:left])
        left = 0
        counts["kept"] -= len(over)
        counts["text_bytes"] -= sum(len(document.text.encode()) for document in over)
        counts["dropped.over_limit"] = counts.get("dropped.over_limit", 0) + len(over)
    return counts
