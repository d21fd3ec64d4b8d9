"""Sources whose files hold many rows: JSON lines, Parquet, conversations."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from pipelines.corpus.file_source import FileSource
from pipelines.corpus.readers.records import Dropped, Limits, Record

JSONL = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".json.gz")
PARQUET = (".parquet",)


class JsonlSource(FileSource):
    """Text in JSON objects, one a line."""

    model_config = ConfigDict(title="JSON lines")
    suffixes: ClassVar[tuple[str, ...]] = JSONL
    kind: Literal["jsonl"] = Field("jsonl", description="One JSON object a line; its text is taken as it is")
    text_field: str = Field("text", min_length=1, description="Field that holds the text")
    url_field: str = Field("url", description="Field that holds the URL, where there is one")

    def records(self, name: str, path: Path, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield the lines of a file."""
        from pipelines.corpus.readers.jsonl import json_records

        return json_records(path, self.text_field, self.url_field, limits)


class ParquetSource(FileSource):
    """Text in a column of a table."""

    model_config = ConfigDict(title="Parquet files")
    suffixes: ClassVar[tuple[str, ...]] = PARQUET
    kind: Literal["parquet"] = Field("parquet", description="One row a document; its text is taken as it is")
    text_field: str = Field("text", min_length=1, description="Column that holds the text")
    url_field: str = Field("url", description="Column that holds the URL, where there is one")

    def records(self, name: str, path: Path, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield the rows of a file."""
        from pipelines.corpus.readers.tables import parquet_records

        return parquet_records(path, self.text_field, self.url_field)


class ConversationsSource(FileSource):
    """Turns of conversations in JSON objects, one conversation a line."""

    model_config = ConfigDict(title="Conversations")
    suffixes: ClassVar[tuple[str, ...]] = JSONL
    kind: Literal["conversations"] = Field(
        "conversations",
        description="One conversation a line: `messages` of role and content, or `conversations` of from and value",
    )
    url_field: str = Field("url", description="Field that holds the URL, where there is one")

    def records(self, name: str, path: Path, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield the conversations of a file, each as one text."""
        from pipelines.corpus.readers.conversations import conversation_records

        return conversation_records(path, self.url_field, limits)
