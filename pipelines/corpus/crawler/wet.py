"""The texts of a WET file: Common Crawl's own extraction, a conversion record a page."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from fastwarc.warc import WarcRecord, WarcRecordType

from pipelines.corpus.readers.records import Dropped, Limits, Record, digest_of, storable, utc
from pipelines.corpus.readers.warc import RawRecord, raw_records


def wet_texts(path: Path, limits: Limits) -> Iterator[Record | Dropped]:
    """Yield the texts of a WET file in order; a second record of the same identifier is dropped."""
    if path.stat().st_size == 0:
        yield Dropped(0, "empty_file")
    seen: set[str] = set()
    for raw in raw_records(path, limits.record):
        yield _text_of(raw, limits, seen) if isinstance(raw, RawRecord) else raw


def _text_of(raw: RawRecord, limits: Limits, seen: set[str]) -> Record | Dropped:
    try:
        record = WarcRecord.from_reader(BytesIO(raw.data), quirks_mode=True)
        text = record.reader.read()
    except (OSError, ValueError):
        return Dropped(raw.offset, "bad_record")
    if record.record_type != WarcRecordType.conversion:
        return Dropped(raw.offset, str(record.record_type))
    if len(text) > limits.page:
        return Dropped(raw.offset, "too_large")
    if record.record_id and record.record_id in seen:
        return Dropped(raw.offset, "duplicate_record_id")
    seen.add(record.record_id or "")
    return Record(
        offset=raw.offset,
        digest=digest_of(text),
        url=storable((record.headers.get("WARC-Target-URI") or "").strip("<>")),
        crawl_time=utc(record.headers.get("WARC-Date")),
        content=storable(text.decode("utf-8", "replace")),
        is_html=False,
    )
