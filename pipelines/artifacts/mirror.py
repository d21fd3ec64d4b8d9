"""A copy of finished artifacts at any fsspec URI: asked before a build, filled after it.

`blobs/<2 digits>/<sha256>` holds bytes under their own hash, so that equal files of any artifacts are one, what is
there is not sent again, and two hosts that send the same key at once disturb nothing. `manifests/<stage>/<key>.json`
is written last and makes the artifact exist. What comes back is hashed file by file before the store shows it.
"""

import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.manifest import Manifest
from pipelines.artifacts.progress import say
from pipelines.artifacts.redaction import redacted, secret_values
from pipelines.artifacts.store import SPARE_BYTES, Store, consistent
from pipelines.artifacts.transfer import Moved, transfer, within

T = TypeVar("T")

CHUNK_BYTES = 4 << 20
ANSWER_SECONDS = 30.0
"""How long a mirror may take to say whether it has a manifest."""
REST_SECONDS = 300.0
"""How long a run goes on without a mirror that failed, before it asks again."""
MAX_MANIFEST_BYTES = 64 << 20
MAX_PARTS = 9_000
"""Object stores take ten thousand parts a file."""
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"}
"""They have no folders: asked for one, some of them make a bucket."""
SHA256 = re.compile(r"[0-9a-f]{64}")
MANIFEST_NAME = re.compile(r"([a-z][a-z0-9_-]*)/([0-9a-f]{64})\.json")


class _Damaged(Exception):
    """What the mirror holds under this key is no whole artifact."""


class Mirror:
    """A place for finished artifacts. A mirror that fails is told in one line, and the run goes on without it."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.asleep_until = 0.0
        self.read_only = False
        self.damaged: set[str] = set()
        """Keys and blobs that turned out damaged: they are sent again."""

    @cached_property
    def _place(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        fs, path = url_to_fs(self.uri)
        return fs, path.rstrip("/")

    def pull(self, store: Store, stage: str, key: str, node: str, allowed: Callable[[], None]) -> Manifest | None:
        """Bring the artifact into the store, whole or not at all; None where the mirror has none. Its lock is held.

        `allowed` is called right before the publication and raises where the key is no longer this host's.
        """
        started = time.monotonic()
        with _scratch(store.root / ".work" / stage, key) as folder:
            manifest = self._told(
                f"{node}: mirror: {key[:12]} cannot be fetched from {self.uri}",
                lambda: self._fetched(store, stage, key, node, folder),
            )
            if manifest is None:
                return None
            allowed()
            if store.folder(stage, key).exists():  # damaged, or the store would have found it
                store.quarantine(stage, key)
            found = store.publish(manifest, folder)
        say(f"{node}: from the mirror, {manifest.bytes / 2**20:,.1f} MiB in {time.monotonic() - started:.1f} s")
        return found

    def known(self, stage: str, key: str) -> Manifest | None:
        """Return the manifest of an artifact that a run would fetch, without fetching it; None where it would build."""

        def asked() -> Manifest | None:
            try:
                return within(ANSWER_SECONDS, lambda: self.manifest(stage, key))
            except _Damaged:
                return None

        return self._told(f"mirror: {self.uri} does not answer", asked)

    def push(self, folder: Path, manifest: Manifest, node: str) -> str:
        """Send a published artifact; return `sent`, `there` or `failed`, which is told and fails nothing else."""
        what = f"{node}: mirror: {manifest.key[:12]} cannot be sent to {self.uri}"
        return self._told(what, lambda: self._pushed(folder, manifest, node)) or "failed"

    def manifest(self, stage: str, key: str) -> Manifest | None:
        """Return the manifest of an artifact that the mirror has, checked for what it may name; else None."""
        fs, root = self._place
        try:
            with fs.open(f"{root}/manifests/{stage}/{key}.json", "rb", block_size=CHUNK_BYTES) as file:
                content = file.read(MAX_MANIFEST_BYTES + 1)
        except FileNotFoundError as error:
            cause = error.__cause__
            if cause is None or isinstance(cause, FileNotFoundError) or not self.uri.startswith("http"):
                return None
            if getattr(cause, "status", None) == 404:
                return None
            raise cause from None  # fsspec says "not found" of a web server that is down or fails as well
        if len(content) > MAX_MANIFEST_BYTES:
            raise _Damaged(f"its manifest is over {MAX_MANIFEST_BYTES >> 20} MiB")
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            raise _Damaged("its manifest is cut or none") from error
        if manifest.stage != stage or not consistent(manifest, Path(key)):
            raise _Damaged("its manifest is another's")
        for name, entry in manifest.files.items():
            if not is_plain(name) or not SHA256.fullmatch(entry.sha256) or entry.bytes < 0:
                raise _Damaged(f"its manifest names {name[:80]!r}, {entry.bytes} bytes")
        return manifest

    def names(self) -> list[tuple[str, str]]:
        """Return stage and key of every artifact that the mirror has; raise UserError where it does not say."""
        fs, root = self._place
        try:
            fs.invalidate_cache()
            found = within(ANSWER_SECONDS, lambda: list(fs.find(f"{root}/manifests")))
        except Exception as error:
            raise UserError(f"mirror: {self.uri!r} cannot be listed ({one_line(error)}); name a key") from error
        matches = [MANIFEST_NAME.fullmatch("/".join(path.split("/")[-2:])) for path in found]
        return sorted((match[1], match[2]) for match in matches if match)

    def _fetched(self, store: Store, stage: str, key: str, node: str, folder: Path) -> Manifest | None:
        try:
            manifest = within(ANSWER_SECONDS, lambda: self.manifest(stage, key))
            if manifest is None or not _fits(manifest, store, node):
                return None
            self._fetch(manifest, folder, node)
        except _Damaged as damage:
            self.damaged.add(key)
            say(f"{node}: mirror: its copy of {key[:12]} is damaged ({damage}); built here and sent anew")
            return None
        return manifest

    def _pushed(self, folder: Path, manifest: Manifest, node: str) -> str:
        if self.read_only:
            return "failed"
        if manifest.key not in self.damaged and within(ANSWER_SECONDS, lambda: self._has(manifest)):
            return "there"
        try:
            self._send(folder, manifest, node)
        except NotImplementedError:
            self.read_only = True
            say(f"mirror: {self.uri} takes no files; it is only read")
            return "failed"
        self.damaged.discard(manifest.key)
        return "sent"

    def _has(self, manifest: Manifest) -> bool:
        try:
            return self.manifest(manifest.stage, manifest.key) is not None
        except _Damaged:
            return False

    def _blob(self, sha256: str) -> str:
        return f"{self._place[1]}/blobs/{sha256[:2]}/{sha256}"

    def _fetch(self, manifest: Manifest, folder: Path, node: str) -> None:
        fs, _ = self._place
        blobs = _by_blob(manifest)

        def fetch(sha256: str, moved: Moved) -> None:
            first, *others = blobs[sha256]
            size, target, digest = manifest.files[first].bytes, folder / first, hashlib.sha256()
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with fs.open(self._blob(sha256), "rb", block_size=CHUNK_BYTES) as source, target.open("xb") as out:
                    while size >= 0 and (chunk := source.read(min(CHUNK_BYTES, size + 1))):
                        size -= len(chunk)
                        digest.update(chunk)
                        out.write(chunk)
                        moved(len(chunk))
            except FileNotFoundError as error:
                raise self._lost(sha256, f"{first} is missing") from error
            if size or digest.hexdigest() != sha256:
                raise self._lost(sha256, f"{first} is not what its manifest says")
            for name in others:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(target, folder / name)

        total = sum(manifest.files[names[0]].bytes for names in blobs.values())
        transfer(list(blobs), fetch, f"{node}: from the mirror", total)

    def _lost(self, sha256: str, what: str) -> _Damaged:
        self.damaged.add(sha256)
        return _Damaged(what)

    def _send(self, folder: Path, manifest: Manifest, node: str) -> None:
        fs, root = self._place
        blobs = _by_blob(manifest)

        def send(sha256: str, moved: Moved) -> None:
            name, target = blobs[sha256][0], self._blob(sha256)
            size, digest = manifest.files[name].bytes, hashlib.sha256()
            if sha256 not in self.damaged and _size(fs, target) == size:
                return moved(size)
            with (folder / name).open("rb") as source, self._writing(target, size) as out:
                while chunk := source.read(CHUNK_BYTES):
                    digest.update(chunk)
                    out.write(chunk)
                    moved(len(chunk))
            if digest.hexdigest() != sha256:
                self.damaged.add(sha256)
                raise OSError(f"{name} is damaged in the store; run gristmill artifacts verify")
            self.damaged.discard(sha256)
            return None

        total = sum(manifest.files[names[0]].bytes for names in blobs.values())
        transfer(list(blobs), send, f"{node}: to the mirror", total)
        content = manifest.model_dump_json(indent=1).encode()
        with self._writing(f"{root}/manifests/{manifest.stage}/{manifest.key}.json", len(content)) as out:
            out.write(content)

    @contextmanager
    def _writing(self, path: str, size: int) -> Iterator[Any]:
        fs, _ = self._place
        if urlsplit(self.uri).scheme not in OBJECT_STORES:
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        with fs.open(path, "wb", block_size=max(2 * CHUNK_BYTES, size // MAX_PARTS)) as out:
            yield out

    def _told(self, what: str, call: Callable[[], T]) -> T | None:
        """Return what `call` returns; whatever a file system raises is told, and None, and a rest for the mirror."""
        if time.monotonic() < self.asleep_until:
            return None
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - every file system has errors of its own
            self.asleep_until = time.monotonic() + REST_SECONDS
            say(f"{what} ({one_line(error)}); the run goes on without it")
            return None


def is_plain(name: str) -> bool:
    """Say whether a file's name stays inside its artifact's folder, in a named output, on any file system."""
    parts = name.split("/")
    return (
        len(parts) > 1
        and len(name) <= 1024
        and name.isprintable()
        and "\\" not in name
        and all(part.strip() and part not in (".", "..") for part in parts)
        and not parts[0].startswith(".")
    )


def one_line(error: Exception) -> str:
    """Return an error's kind and first line, without secrets and without the queries of addresses."""
    text = f"{type(error).__name__}: {error}".rstrip(": ").splitlines()[0][:300]
    return redacted(re.sub(r"\?\S+=\S+", "?***", text), secret_values())


def _by_blob(manifest: Manifest) -> dict[str, list[str]]:
    blobs: dict[str, list[str]] = {}
    for name, entry in sorted(manifest.files.items()):
        blobs.setdefault(entry.sha256, []).append(name)
    return blobs


def _fits(manifest: Manifest, store: Store, node: str) -> bool:
    free = shutil.disk_usage(store.root).free - SPARE_BYTES
    if manifest.bytes > free:
        say(f"{node}: mirror: {manifest.bytes >> 20:,} MiB do not fit the store's disk ({free >> 20:,} to spare)")
    return manifest.bytes <= free


def _size(fs: Any, path: str) -> int | None:
    try:
        size: int | None = fs.info(path)["size"]
    except FileNotFoundError:
        return None
    return size


@contextmanager
def _scratch(ground: Path, key: str) -> Iterator[Path]:
    """Yield a folder of this attempt alone, beside the work directories; what a kill leaves of it goes by gc."""
    ground.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{key}.pull.", dir=ground))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
