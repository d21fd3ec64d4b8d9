"""One shard of a source to one part of documents, with a row for each record that was lost."""

import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document

from pipelines.artifacts.progress import say
from pipelines.artifacts.work import atomic_file, progress_dir
from pipelines.corpus.documents import (
    PROVENANCE,
    PartWriter,
    document_id,
    part_name,
    parts,
    read_documents,
    write_documents,
)
from pipelines.corpus.extract import Extractor
from pipelines.corpus.extraction import ExtractorProcess, PageLimits
from pipelines.corpus.readers.records import REPLACEMENT, Dropped, Limits, Record
from pipelines.corpus.sources.base import Source
from pipelines.corpus.sources.byte_shards import Slice

ROWS_PER_REASON = 100
"""Rows that errors.jsonl lists of one reason; the counts are whole all the same."""
NAMED = 5
"""Files passed over that a line names."""
MAX_URL = 1 << 16
"""Characters of an address, which is in memory beside the text; a record's header holds no longer one either."""
ORDINARY = frozenset({"warcinfo", "request", "metadata", "resource", "conversion", "continuation", "revisit"}) | {
    "redirect", "namespace", "licence_file"
}  # fmt: skip
"""Records that a healthy crawl, dump or tree holds beside its pages; counted, and not listed as errors."""
GARBLED = "garbled"
"""Documents kept that hold U+FFFD, which stands for bytes that are no text in their charset."""
LICENSED = pa.schema([*PROVENANCE, ("licence", pa.string())])


def storable_name(name: str) -> str:
    """Return a file's name as UTF-8 can carry it: bytes that are none are written as `\\udc80` to `\\udcff`."""
    return name.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class Intake:
    """What all shards of an ingestion share; it is sent to worker processes."""

    source: Source
    shards: tuple[tuple[Slice, ...], ...]
    out: Path
    extractor: Extractor
    limits: Limits
    page_limits: PageLimits
    max_text_bytes: int
    max_documents: int | None

    @property
    def schema(self) -> pa.Schema:
        """The columns of the documents."""
        return LICENSED if self.source.states_licence else PROVENANCE

    def take_in(self, index: int) -> dict[str, int]:
        """Write part `index` from the slices of shard `index` and return its counts."""
        counts: Counter[str] = Counter({"in": 0, "kept": 0})
        errors = ErrorList()
        names: deque[str] = deque()

        def items() -> Iterator[Record | Dropped]:
            for name, item in self.items(index):
                names.append(name)
                yield item

        with (
            PartWriter(self.out / "documents" / part_name(index), self.out, self.schema) as writer,
            ExtractorProcess(self.extractor, self.page_limits) as extraction,
        ):
            for item in extraction.results(items()):  # one for one and in order
                name = names.popleft()
                found = self.document(item, name) if isinstance(item, Record) else item
                if isinstance(found, Document):
                    writer.write(found)
                    counts["text_bytes"] += len(found.text.encode())
                    if REPLACEMENT in found.text:
                        counts[GARBLED] += 1
                    counts.update(("in", "kept"))
                    if counts["kept"] == self.max_documents:
                        break
                else:
                    counts["in"] += found.count
                    counts[f"dropped.{found.reason}"] += found.count
                    errors.note(name, found)
        with atomic_file(errors_path(self.out, index), self.out) as fresh:
            fresh.write_text("".join(json.dumps(row) + "\n" for row in errors.rows))
        return dict(counts)

    def items(self, index: int) -> Iterator[tuple[str, Record | Dropped]]:
        """Yield what the slices of a shard hold, each with the name of its file."""
        for piece in self.shards[index]:
            for item in self.source.records(piece, self.limits):
                yield storable_name(piece.name), item

    def document(self, record: Record, name: str) -> Document | Dropped:
        """Return the record, a page as its main text, as a document, or the reason why it is none."""
        text = record.content
        if not text.strip():
            return Dropped(record.offset, "no_text" if record.is_html else "empty", url=record.url)
        if len(text.encode()) > self.max_text_bytes:
            return Dropped(record.offset, "too_large", url=record.url)
        if len(record.url) > MAX_URL:
            return Dropped(record.offset, "long_url")
        return Document(
            text=text,
            id=document_id(record.digest, record.offset, name if self.source.document_per_file else ""),
            metadata={
                "url": record.url,
                "source_uri": name,
                "record_offset": record.offset,
                "record_digest": record.digest,
                "crawl_time": record.crawl_time,
                **({"licence": record.licence} if self.source.states_licence else {}),
            },
        )


class ErrorList:
    """The rows of one shard's lost records, at most `ROWS_PER_REASON` of a reason."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str | int]] = []
        self._listed: Counter[str] = Counter()

    def note(self, name: str, dropped: Dropped) -> None:
        """List a lost record of the file of this name."""
        if dropped.reason in ORDINARY or self._listed[dropped.reason] >= ROWS_PER_REASON:
            return
        self._listed[dropped.reason] += 1
        row: dict[str, str | int] = {"file": name, "offset": dropped.offset, "reason": dropped.reason}
        known: dict[str, str | int] = {"url": dropped.url, "skipped_bytes": dropped.skipped_bytes}
        self.rows.append(row | {name: value for name, value in known.items() if value})


def tell_passed_over(names: list[str]) -> None:
    """Say how many files of a source's folder are of no kind that it reads, and name the first."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    shown = ", ".join(map(storable_name, names[:NAMED]))
    say(f"ingest: {len(names):,} files of the source are passed over for their endings: {shown}{more}")


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


def keep_first(out: Path, limit: int, counts: dict[str, int], schema: pa.Schema) -> dict[str, int]:
    """Shorten the parts so that the first `limit` documents are left, and return the counts that are then true."""
    left, counts = limit, dict(counts)
    for part in parts(out / "documents"):
        held = pq.read_metadata(part).num_rows
        if held <= left:
            left -= held
            continue
        documents = read_documents(part)
        over = held - write_documents(part, out, schema, islice(documents, left))
        left = 0
        rest = list(documents)
        counts["kept"] -= over
        counts["text_bytes"] -= sum(len(document.text.encode()) for document in rest)
        if GARBLED in counts:
            counts[GARBLED] -= sum(REPLACEMENT in document.text for document in rest)
        counts["dropped.over_limit"] = counts.get("dropped.over_limit", 0) + over
    return counts
