"""Sources whose files hold many rows: JSON lines, Parquet, conversations."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from pipelines.corpus.readers.records import Dropped, Limits, Record
from pipelines.corpus.sources.base import FileSource
from pipelines.corpus.sources.byte_shards import Sized, Slice, cut_anywhere, cut_between, row_group_bytes

JSONL = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".json.gz")
PARQUET = (".parquet",)


class JsonlSource(FileSource):
    """Text in JSON objects, one a line."""

    model_config = ConfigDict(title="JSONL")
    suffixes: ClassVar[tuple[str, ...]] = JSONL
    kind: Literal["jsonl"] = Field("jsonl", description="One JSON object a line; its text is taken as it is")
    text_field: str = Field("text", min_length=1, description="Field that holds the text")
    url_field: str = Field("url", description="Field that holds the URL, where there is one")

    def records(self, piece: Slice, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield the lines of a file."""
        from pipelines.corpus.readers.jsonl import json_records

        return json_records(piece.path, self.text_field, self.url_field, limits, piece.start, piece.end)

    def cut(self, name: str, path: Path, shard_bytes: int) -> Iterable[Sized]:
        """Return slices of about equal bytes of a file that is not compressed."""
        from pipelines.corpus.readers.inflate import is_plain

        if is_plain(path):
            return cut_anywhere(Slice(name, path), path.stat().st_size, shard_bytes)
        return super().cut(name, path, shard_bytes)


class ParquetSource(FileSource):
    """Text in a column of a table."""

    model_config = ConfigDict(title="Parquet")
    suffixes: ClassVar[tuple[str, ...]] = PARQUET
    kind: Literal["parquet"] = Field("parquet", description="One row a document; its text is taken as it is")
    text_field: str = Field("text", min_length=1, description="Column that holds the text")
    url_field: str = Field("url", description="Column that holds the URL, where there is one")

    def records(self, piece: Slice, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield the rows of a file."""
        from pipelines.corpus.readers.tables import parquet_records

        return parquet_records(piece.path, self.text_field, self.url_field, piece.start, piece.end)

    def cut(self, name: str, path: Path, shard_bytes: int) -> Iterable[Sized]:
        """Return slices of whole row groups."""
        return cut_between(Slice(name, path), row_group_bytes(path) or [path.stat().st_size], shard_bytes)


class ConversationsSource(FileSource):
    """Turns of conversations in JSON objects, one conversation a line."""

    model_config = ConfigDict(title="Conversations")
    suffixes: ClassVar[tuple[str, ...]] = JSONL
    kind: Literal["conversations"] = Field(
        "conversations",
        description="One conversation a line: `messages` of role and content, or `conversations` of from and value",
    )
    url_field: str = Field("url", description="Field that holds the URL, where there is one")

    def records(self, piece: Slice, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield the conversations of a file, each as one text."""
        from pipelines.corpus.readers.conversations import conversation_records

        return conversation_records(piece.path, self.url_field, limits)
