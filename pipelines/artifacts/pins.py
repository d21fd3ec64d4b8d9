"""Root inputs: what comes from outside the store, pinned by its content and never by its path."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipelines.artifacts.errors import UserError

SETTLED_NS = 2_000_000_000
"""Age of a file's last change below which its digest is not remembered: two writes within one tick of the file
system's clock leave the same times."""


class Root(Protocol):
    """An input from outside the store."""

    def pin(self, cache: "PinCache") -> str:
        """Return what the key holds of this input: a content digest, a revision or a crawl id."""
        ...


@dataclass(frozen=True)
class FileRoot:
    """Files by their names inside the source: a renamed folder is the same input, a renamed page is not."""

    files: Mapping[str, Path]
    field: str
    """The setting that names them, for errors."""
    check: Callable[[Path], object] | None = None
    """Raises UserError for a file that is not what it should be; asked when the file is hashed for the first time."""

    def pin(self, cache: "PinCache") -> str:
        """Return the digest over the names and contents of the files; raise UserError naming the field."""
        digests = {name: cache.digest(path, self.field, self.check) for name, path in self.files.items()}
        return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class NamedRoot:
    """An input that a name fixes for ever: a crawl id, a data set's revision, an interpreter's version."""

    name: str

    def pin(self, cache: "PinCache") -> str:
        """Return the name itself."""
        return self.name


MOST_ENDINGS = 12
"""Endings that an error names: what fits a line."""


def source_files(path: Path, suffixes: tuple[str, ...], field: str) -> dict[str, Path]:
    """Return the files of a file, a folder or a glob that end in one of `suffixes`, by name inside it, sorted.

    Links out of the folder, what is no regular file, and what lies in hidden folders or is hidden itself are passed
    over. Raises UserError, which names the setting `field`, when there is none.
    """
    text = str(path)
    with readable(text, field):
        is_file, is_dir = path.is_file(), path.is_dir()
    if is_file:
        return {path.name: path}
    if is_dir:
        base, found = path.resolve(), _below(path, field)
    elif any(mark in text for mark in "*?["):
        fixed = Path(text[: min(text.index(mark) for mark in "*?[" if mark in text)])
        folder = fixed if text.endswith("/") or fixed.is_dir() else fixed.parent
        base, found = folder.resolve(), folder.resolve().glob(os.path.relpath(text, folder))
    elif path.exists():
        raise UserError(f"{field}: {text!r} is no regular file; name a file, a folder or a glob")
    else:
        raise UserError(f"{field}: {text!r} does not exist; name a file, a folder or a glob")
    files = {
        str(item.relative_to(path if path.is_dir() else base)): item
        for item in found
        if not any(part.startswith(".") for part in item.relative_to(path if path.is_dir() else base).parts)
        if item.is_file() and item.name.lower().endswith(suffixes) and item.resolve().is_relative_to(base)
    }
    if not files:
        endings = " or ".join(suffixes[:MOST_ENDINGS]) + (" and others" if len(suffixes) > MOST_ENDINGS else "")
        raise UserError(f"{field}: {text!r} holds no file ending in {endings}; name another path")
    return dict(sorted(files.items()))


@contextmanager
def readable(text: str, field: str) -> Iterator[None]:
    """Turn what the system says of a path into one line: a name too long, a folder that may not be entered."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{field}: {text[:200]!r} cannot be read ({error.strerror}); check the path") from error


def _below(folder: Path, field: str) -> Iterator[Path]:
    """Yield what lies below a folder, but for hidden folders; raise UserError for one that may not be read."""

    def refuse(error: OSError) -> None:
        raise error

    with readable(str(folder), field):
        for place, folders, names in os.walk(folder, onerror=refuse):
            folders[:] = [name for name in folders if not name.startswith(".")]
            yield from (Path(place) / name for name in names)


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class PinCache:
    """Digests of files that have not changed since they were hashed, kept beside the store.

    An entry is found by (device, inode, size, mtime_ns, ctime_ns), so it only spares reading a file again; what
    decides whether two inputs are equal is always the digest.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, str] = {}
        self._changed = False
        try:
            loaded = json.loads(path.read_text())
        except (OSError, ValueError):
            loaded = {}  # a cache: losing it costs a read
        if isinstance(loaded, dict):
            self._entries = {str(key): str(value) for key, value in loaded.items()}

    def digest(self, path: Path, field: str, check: Callable[[Path], object] | None = None) -> str:
        """Return the file's sha256, once `check` has found nothing wrong with it.

        Raises UserError, which names the setting `field`, when it cannot be read.
        """
        try:
            stat = path.stat()
            key = f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"
            known = self._entries.get(key)
            if known is None:
                if check:
                    check(path)
                known = file_digest(path)
                if time.time_ns() - stat.st_ctime_ns > SETTLED_NS:
                    self._entries[key] = known
                    self._changed = True
        except OSError as error:
            raise UserError(f"{field}: {str(path)!r} cannot be read ({error.strerror}); check the path") from error
        return known

    def save(self) -> None:
        """Write the cache for the next process; a store that cannot be written loses nothing but time."""
        if not self._changed:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            fresh.write_text(json.dumps(self._entries, sort_keys=True))
            fresh.replace(self.path)
        except OSError:
            return
        self._changed = False
