"""Reading Parquet: every row is a record or is counted with a reason."""

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.artifacts.errors import UserError
from pipelines.corpus.readers.records import Dropped, Record, digest_of, storable, utc

ROWS_AT_ONCE = 200


def parquet_records(
    path: Path, text_field: str, url_field: str, start: int = 0, end: int | None = None
) -> Iterator[Record | Dropped]:
    """Yield the rows of a file, or of its row groups from `start` to before `end`, in order; the offset is the row's.

    Raises UserError when the file has no such column of text: a wrong name would drop everything in silence.
    """
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError):
        yield Dropped(0, "unreadable_file")
        return
    with file:
        columns = _columns(path, file.schema_arrow, text_field, url_field)
        rows = [0, *accumulate(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))]
        groups = range(file.num_row_groups)[start:end]
        row = rows[start]
        try:
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns, row_groups=list(groups)):
                for values in _rows(batch):
                    yield _record(row, values, text_field, url_field)
                    row += 1
        except (pa.ArrowException, OSError):
            yield Dropped(row, "damaged_row_group", count=rows[groups.stop] - row)


def _columns(path: Path, schema: pa.Schema, text_field: str, url_field: str) -> list[str]:
    kinds = {field.name: field.type for field in schema}
    kind = kinds.get(text_field)
    if kind is None or not _is_text(kind):
        problem = "is no text" if kind is not None else "is not there"
        raise UserError(
            f"source: column {text_field!r} of {path.name!r} {problem} (it has {', '.join(kinds) or 'no column'}); "
            "set ingest.source.text_field"
        )
    return [name for name in (text_field, url_field, "crawl_time") if name in kinds]


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Yield the rows with their strings as bytes, which pyarrow does not check to be UTF-8."""
    columns = {name: _plain(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    for row in range(batch.num_rows):
        yield {name: _value(column[row]) for name, column in columns.items()}


def _plain(column: pa.Array) -> pa.Array:
    column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return column.cast(pa.large_binary()) if _is_text(column.type) else column


def _value(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except (ValueError, OverflowError, KeyError):  # a moment beyond the year 9999, or of a zone that there is not
        return None


def _record(row: int, values: dict[str, Any], text_field: str, url_field: str) -> Record | Dropped:
    text, url = values.get(text_field), _text(values.get(url_field))
    if text is None:
        return Dropped(row, "no_text", url=url)
    moment = values.get("crawl_time")
    return Record(
        offset=row,
        digest=digest_of(text),
        url=url,
        crawl_time=utc(_text(moment) if isinstance(moment, bytes) else moment),
        content=_text(text),
        is_html=False,
    )


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _text(value: object) -> str:
    return storable(value.decode("utf-8", "replace")) if isinstance(value, bytes) else ""
