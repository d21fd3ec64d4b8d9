"""The pages of a crawl file."""

from collections.abc import Iterator
from pathlib import Path

from pipelines.corpus.readers.arc import arc_records, is_arc
from pipelines.corpus.readers.http_page import page_of
from pipelines.corpus.readers.records import Dropped, Limits, Record
from pipelines.corpus.readers.warc import RawRecord, raw_records


def crawl_pages(path: Path, limits: Limits) -> Iterator[Record | Dropped]:
    """Yield the pages of a WARC or ARC file; a second record of the same identifier is dropped."""
    if path.stat().st_size == 0:
        yield Dropped(0, "empty_file")
    seen: set[str] = set()
    records = arc_records if is_arc(path) else raw_records
    for raw in records(path, limits.record):
        yield page_of(raw, limits, seen) if isinstance(raw, RawRecord) else raw
