"""WET files: the text of each page as the crawl's own extraction left it, in WARC records of type `conversion`."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from fastwarc.warc import WarcRecord, WarcRecordType

from pipelines.corpus.readers.records import Dropped, Limits, Record, digest_of, short, storable, utc
from pipelines.corpus.readers.warc import RawRecord, raw_records


def wet_records(path: Path, limits: Limits) -> Iterator[Record | Dropped]:
    """Yield the texts of a WET file in order; a second record of the same identifier is dropped."""
    if path.stat().st_size == 0:
        yield Dropped(0, "empty_file")
    seen: set[str] = set()
    for raw in raw_records(path, limits.record):
        yield text_of(raw, limits, seen) if isinstance(raw, RawRecord) else raw


def text_of(raw: RawRecord, limits: Limits, seen: set[str]) -> Record | Dropped:
    """Return the text that the record holds, or why it holds none; `seen` gathers the identifiers of texts."""
    try:
        record = WarcRecord.from_reader(BytesIO(raw.data), quirks_mode=True)
    except OSError:
        return Dropped(raw.offset, "bad_record")
    if record.record_type != WarcRecordType.conversion:
        return Dropped(raw.offset, str(record.record_type))
    kind = (record.headers.get("Content-Type") or "text/plain").split(";")[0].strip().lower()
    if kind != "text/plain":
        return Dropped(raw.offset, "not_text")
    block = record.reader.read()
    if len(block) > limits.page:
        return Dropped(raw.offset, "too_large")
    identifier = short(record.record_id or "")
    if identifier in seen:
        return Dropped(raw.offset, "duplicate_record_id")
    if identifier:
        seen.add(identifier)
    return Record(
        offset=raw.offset,
        digest=digest_of(block),
        url=storable((record.headers.get("WARC-Target-URI") or "").strip("<>")),
        crawl_time=utc(record.headers.get("WARC-Date")),
        content=storable(block.decode("utf-8", "replace")),
        is_html=False,
    )
