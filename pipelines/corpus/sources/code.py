"""Trees of source code."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import source_files
from pipelines.corpus.readers.code_names import CODE, is_code, is_licence
from pipelines.corpus.readers.records import Dropped, Limits, Record
from pipelines.corpus.sources.base import FileSource
from pipelines.corpus.sources.byte_shards import Slice


class CodeSource(FileSource):
    """A tree of source code with its licence files."""

    model_config = ConfigDict(title="Code")
    suffixes: ClassVar[tuple[str, ...]] = CODE
    document_per_file: ClassVar[bool] = True
    states_licence: ClassVar[bool] = True
    extra: ClassVar[str] = "code"
    libraries: ClassVar[tuple[str, ...]] = ("identify", "ukkonen")
    path: Path = Field(description="A folder, searched in depth")
    kind: Literal["code"] = Field("code", description="One document a file that was written by hand, with its licence")
    permissive_only: bool = Field(
        False, description="Keep only files under licences that ask for attribution at most (MIT, Apache-2.0, BSD, …)"
    )

    def files(self) -> dict[str, Path]:
        """Return the code and the licence files of the folder; raise UserError where there is no code."""
        if not self.path.is_dir():
            raise UserError(f"ingest.source.path: {str(self.path)!r} is no folder, which source code is read from")
        files = source_files(self.path, ("",), "ingest.source.path")
        if not any(map(is_code, files)):
            raise UserError(f"ingest.source.path: {str(self.path)!r} holds no source code; name another folder")
        return {name: path for name, path in files.items() if is_code(name) or is_licence(path.name)}

    def records(self, piece: Slice, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield the code that a file holds."""
        from pipelines.corpus.readers.code import code_record

        yield code_record(piece.name, piece.path, self.path, self.permissive_only, limits)
