"""What every kind of source says of itself, and the files of this machine as one."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import FileRoot, NamedRoot, Root, source_files
from pipelines.artifacts.stage import StageConfig
from pipelines.corpus.readers.records import Dropped, Limits, Record
from pipelines.corpus.sources.byte_shards import PACKED, PACKED_RATIO, Sized, Slice


class Source(StageConfig):
    """A place that documents come from: it lists its files and reads each of them."""

    extra: ClassVar[str] = ""
    """The optional part of Gristmill that holds the libraries of this kind."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Libraries of this kind alone, whose versions enter the key of what is read with them."""
    document_per_file: ClassVar[bool] = False
    """A file is one document: many share a part, and equal files are documents of their own."""
    states_licence: ClassVar[bool] = False
    """Documents have a column `licence`: an SPDX identifier, or what the source says in its own words."""

    @abstractmethod
    def files(self) -> dict[str, Path]:
        """Return the files by their names inside the source, in order; raise UserError when there is none."""

    @abstractmethod
    def records(self, piece: Slice, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield what a slice of a file holds, in order: a record or a counted reason for each unit of its format."""

    def cut(self, name: str, path: Path, shard_bytes: int) -> Iterable[Sized]:
        """Return a file as slices that can be read by themselves, with the bytes of each; by itself, the whole."""
        packed = name.lower().endswith(PACKED)
        return [(Slice(name, path), path.stat().st_size * (PACKED_RATIO if packed else 1))]

    def roots(self) -> Mapping[str, Root]:
        """Return the libraries that this kind needs; raise UserError naming the extra when one is not installed."""
        return {f"library.{name}": NamedRoot(f"{name} {self._version(name)}") for name in self.libraries}

    def _version(self, library: str) -> str:
        try:
            return metadata.version(library)
        except metadata.PackageNotFoundError:
            kind = type(self).model_fields["kind"].default
            raise UserError(
                f"ingest.source: kind {kind!r} needs the library {library!r}; run pip install 'gristmill[{self.extra}]'"
            ) from None

    def passed_over(self) -> list[str]:
        """Return the names of the files that lie among those of the source and are of no kind that it reads."""
        return []

    def refuse_own_output(self, out: Path) -> None:
        """Raise UserError when the source would read what a stage writes to `out`."""


class FileSource(Source):
    """Files on this machine, whose content enters the key and whose place does not."""

    pinned: ClassVar[frozenset[str]] = frozenset({"path"})
    suffixes: ClassVar[tuple[str, ...]]
    path: Path = Field(description="A file, a folder (searched in depth) or a glob")

    def files(self) -> dict[str, Path]:
        """Return the files by their names inside the source, in order; raise UserError when there is none."""
        return source_files(self.path, self.suffixes, "ingest.source.path")

    def passed_over(self) -> list[str]:
        """Return the names of the files of the folder or glob that have other endings; hidden ones are none of them."""
        return sorted(source_files(self.path, ("",), "ingest.source.path").keys() - self.files().keys())

    def roots(self) -> Mapping[str, Root]:
        """Return the files as an input pinned by content, beside the libraries of this kind."""
        return {"path": FileRoot(self.files(), "ingest.source.path"), **super().roots()}

    def refuse_own_output(self, out: Path) -> None:
        """Raise UserError when `out` lies in the folder that is searched."""
        refuse_inside(searched_folder(self.path), out, f"ingest.source.path: {str(self.path)!r}")


def refuse_inside(base: Path | None, out: Path, named: str) -> None:
    """Raise UserError when `out` lies in the folder `base`, which a source searches."""
    if base is not None and out.resolve().is_relative_to(base.resolve()):
        raise UserError(
            f"{named} holds the store, which would read its own output; name another --store or a folder beside it"
        )


def searched_folder(path: Path) -> Path | None:
    """Return the folder that is searched in depth for this path, if one is."""
    if path.is_dir():
        return path
    fixed, mark, _ = str(path).partition("**")
    return (Path(fixed) if fixed.endswith("/") else Path(fixed).parent) if mark else None
