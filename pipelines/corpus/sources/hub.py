"""Data sets of the Hugging Face hub, at one commit."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import ConfigDict, Field

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import FileRoot, NamedRoot, Root, source_files
from pipelines.corpus.readers.records import Dropped, Limits, Record
from pipelines.corpus.sources.base import Source, refuse_inside
from pipelines.corpus.sources.byte_shards import Sized, Slice

HUB = "hf://datasets/"
COMMIT = re.compile(r"[0-9a-f]{40}")


class HubSource(Source):
    """A data set of the hub at one commit, or a copy of one in a local folder."""

    model_config = ConfigDict(title="Hub")
    pinned: ClassVar[frozenset[str]] = frozenset({"dataset", "revision"})
    libraries: ClassVar[tuple[str, ...]] = ("datasets",)
    kind: Literal["hub"] = Field("hub", description="Rows of a data set's Parquet or JSON files, one document a row")
    dataset: str = Field(
        min_length=1, max_length=1_000, description="OWNER/NAME on the hub, or a folder that holds such a repository"
    )
    revision: str = Field(
        "", max_length=200, description="The commit, 40 hexadecimal digits: branches and tags move; not for a folder"
    )
    subset: str | None = Field(None, min_length=1, description="Name of the subset (config), where there are several")
    split: str = Field("train", min_length=1, description="Split that is read")
    text_field: str = Field("text", min_length=1, description="Field that holds the text")
    url_field: str = Field("url", description="Field that holds the URL, where there is one")

    @classmethod
    def from_uri(cls, uri: str) -> Self:
        """Return the source that `hf://datasets/OWNER/NAME@REVISION` names."""
        dataset, _, revision = uri.removeprefix(HUB).partition("@")
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", dataset):
            raise UserError(f"ingest.source: {uri!r} names no data set; write {HUB}OWNER/NAME@REVISION")
        return cls(dataset=dataset, revision=revision)

    def folder(self) -> Path | None:
        """Return the local folder that holds the data set, or None when it is on the hub."""
        path = Path(self.dataset).expanduser()
        return path if path.is_dir() and (path.is_absolute() or self.dataset.startswith((".", "~"))) else None

    def roots(self) -> Mapping[str, Root]:
        """Return the commit, or the folder's content; raise UserError for a revision that can move."""
        folder = self.folder()
        if folder:
            field = "ingest.source.dataset"
            return {"dataset": FileRoot(source_files(folder, ("",), field), field), **super().roots()}
        if not COMMIT.fullmatch(self.revision):
            from pipelines.corpus.readers.hub import unpinned

            raise unpinned(self.dataset, self.revision)
        return {"dataset": NamedRoot(f"{HUB}{self.dataset}@{self.revision}"), **super().roots()}

    def files(self) -> dict[str, Path]:
        """Return the files of the split by their names in the repository, in order."""
        from pipelines.corpus.readers.hub import split_files

        return split_files(self.dataset, self.revision, self.folder(), self.subset, self.split)

    def refuse_own_output(self, out: Path) -> None:
        """Raise UserError when `out` lies in the local folder."""
        refuse_inside(self.folder(), out, f"ingest.source.dataset: {self.dataset!r}")

    def cut(self, name: str, path: Path, shard_bytes: int) -> Iterable[Sized]:
        """Return a file as a shard of its own: one on the hub is fetched only when its turn comes."""
        return [(Slice(name, path), shard_bytes)]

    def records(self, piece: Slice, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield the rows of a file, which is fetched first where it is on the hub."""
        from pipelines.corpus.readers.hub import hub_records

        repository = None if self.folder() else (self.dataset, self.revision)
        return hub_records(repository, piece.name, piece.path, self.text_field, self.url_field, limits)
