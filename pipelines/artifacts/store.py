"""The store: `<stage>/<key>/`, published whole or not at all, and the only cache of the system."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipelines.artifacts.canonical import digest_of as key_of
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.lease import Lease, leased, work_name
from pipelines.artifacts.manifest import MANIFEST, FileEntry, Manifest
from pipelines.artifacts.pins import PinCache, file_digest
from pipelines.artifacts.work import PROGRESS, fsync_dir

if TYPE_CHECKING:
    from pipelines.artifacts.mirror import Mirror

UNDIGESTED = "log"
"""The output that holds timings, rates, dates and host: it has no digest and no consumer's key depends on it."""

REGISTRY = "registry"
"""The folder beside the stages' that says which model is served; it holds no artifacts."""
OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST}
"""What a rename says where a folder with files in it has the name."""

SPARE_BYTES = 256 << 20
"""Free space below which no stage is started: a smoke run writes less, and a full disk is named before the work."""


class Store:
    """A folder of artifacts. Several processes may use it at once; one that is killed leaves nothing half-done."""

    def __init__(self, root: Path, mirror: "Mirror | None" = None) -> None:
        self.root, self.mirror = root, mirror
        self.pins = PinCache(root / ".pins.json")

    def __reduce__(self) -> "tuple[Callable[[str, str | None], Store], tuple[str, str | None]]":
        """Cross to another process by its place: what it has in memory and its connections stay."""
        from pipelines.artifacts.mirror_uri import store_at  # which imports this module

        return store_at, (str(self.root.resolve()), self.mirror.uri if self.mirror else None)

    def folder(self, stage: str, key: str) -> Path:
        """Return where the artifact is published."""
        return self.root / stage / key

    def work(self, stage: str, key: str) -> Path:
        """Return where the artifact is built."""
        return self.root / ".work" / stage / work_name(self.leases(stage, key))

    def leases(self, stage: str, key: str) -> Path:
        """Return where the hosts that hold the key, one after the other, leave their records."""
        return self.root / ".leases" / stage / key

    def prepare(self) -> None:
        """Make the store's folder; raise UserError when it cannot be written or its disk is almost full."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe.{os.getpid()}"
            probe.write_bytes(b"gristmill")
            probe.unlink()
            free = shutil.disk_usage(self.root).free
        except OSError as error:
            raise UserError(
                f"store: {str(self.root)!r} cannot be written ({error.strerror}); choose another with --store"
            ) from error
        if free < SPARE_BYTES:
            raise UserError(
                f"store: the disk of {str(self.root)!r} has {free >> 20} MiB free and a run needs at least "
                f"{SPARE_BYTES >> 20}; free some space or choose another with --store"
            )

    def find(self, stage: str, key: str) -> Manifest | None:
        """Return the manifest of a published artifact whose files are all there in their sizes, else None."""
        folder = self.folder(stage, key)
        manifest = read_manifest(folder)
        if manifest is None or manifest.stage != stage or not consistent(manifest, folder):
            return None
        return manifest if all(_size(folder / name) == entry.bytes for name, entry in manifest.files.items()) else None

    def manifests(self, stage: str | None = None) -> Iterator[Manifest]:
        """Yield the manifests of all published artifacts, or of one stage's, in order of stage and key."""
        for folder in self.folders(stage):
            manifest = read_manifest(folder)
            if manifest is not None:
                yield manifest

    def folders(self, stage: str | None = None) -> list[Path]:
        """Return the folders of all published artifacts, or of one stage's, in order of stage and key."""
        found = sorted(self.root.glob(f"{stage or '[!.]*'}/[!.]*"))
        return [folder for folder in found if folder.parent.name != REGISTRY]

    @contextmanager
    def lock(self, stage: str, key: str, waiting: str | None = None) -> Iterator[Lease]:
        """Hold the key: on this host by a lock that the kernel frees however the process dies, and against others.

        The descriptor is inheritable, so a child that outlives a killed parent still holds the lock.
        """
        path = self.root / ".locks" / stage / key
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.set_inheritable(handle, True)
            self._flock(handle, waiting)
            with leased(self.leases(stage, key), waiting) as lease:
                yield lease
        finally:
            os.close(handle)

    def _flock(self, handle: int, waiting: str | None) -> None:
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting:
                    from pipelines.artifacts.progress import say

                    say(waiting)
                fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(
                f"store: {str(self.root)!r} is on a file system that locks no files ({error.strerror}); mount it with "
                "locks, or choose another with --store"
            ) from error

    def publish(self, manifest: Manifest, work: Path) -> Manifest:
        """Make the built files durable and the artifact visible in one rename; return the manifest that stands.

        The key's lock must be held. The rename replaces nothing: where a host that was taken for dead has published in
        between, its artifact stands.
        The stage's progress folder travels inside and is removed afterwards: a kill between the two leaves a
        complete artifact, a kill before it leaves all progress.
        """
        folder = self.folder(manifest.stage, manifest.key)
        for name in manifest.files:
            _fsync_file(work / name)
        target = work / MANIFEST
        target.write_text(manifest.model_dump_json(indent=1))
        _fsync_file(target)
        for inner in sorted({(work / name).parent for name in manifest.files} | {work}):
            fsync_dir(inner)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            work.rename(folder)
        except OSError as error:
            other = self.find(manifest.stage, manifest.key) if error.errno in OCCUPIED else None
            if other is None:
                raise
            shutil.rmtree(work, ignore_errors=True)
            return other
        fsync_dir(folder.parent)
        shutil.rmtree(folder / PROGRESS, ignore_errors=True)
        return manifest

    def quarantine_if_damaged(self, stage: str, key: str, output: str | None = None) -> list[str]:
        """Hash the artifact, or one output of it, and move it away if it is damaged; return the damaged files.

        It is hashed again under the key's lock: another run may have rebuilt it in between.
        """
        folder = self.folder(stage, key)
        if not damage(folder, output):
            return []
        with self.lock(stage, key) as lease:
            bad = damage(folder, output) if folder.exists() else []
            if bad and lease.held():
                self.quarantine(stage, key)
        return bad

    def quarantine(self, stage: str, key: str) -> Path:
        """Move a damaged artifact out of the way and return where it went. The key's lock must be held."""
        ground = self.root / ".quarantine" / stage
        ground.mkdir(parents=True, exist_ok=True)
        taken = sum(1 for _ in ground.glob(f"{key}.*"))
        target = ground / f"{key}.{taken}"
        self.folder(stage, key).rename(target)
        return target


def read_manifest(folder: Path) -> Manifest | None:
    """Return a folder's manifest; None where it is missing, cut, or of another format."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def hash_files(work: Path) -> dict[str, FileEntry]:
    """Return every file below `work` that is to be published, by relative name, with digest and size."""
    files = {}
    for path in sorted(work.rglob("*")):
        name = path.relative_to(work)
        if name.parts[0] != PROGRESS and str(name) != MANIFEST and path.is_file():
            files[name.as_posix()] = FileEntry(sha256=file_digest(path), bytes=path.stat().st_size)
    return files


def output_digests(files: dict[str, FileEntry]) -> dict[str, str]:
    """Return each named output's digest: the hash over the names and hashes of its files. `log` has none."""
    outputs: dict[str, dict[str, str]] = {}
    for name, entry in files.items():
        output, _, inner = name.partition("/")
        outputs.setdefault(output, {})[inner] = entry.sha256
    return {
        output: hashlib.sha256(json.dumps(inner, sort_keys=True).encode()).hexdigest()
        for output, inner in sorted(outputs.items())
        if output != UNDIGESTED
    }


def damage(folder: Path, output: str | None = None) -> list[str]:
    """Return the files of an artifact that are not what its manifest says, the manifest itself among them."""
    manifest = read_manifest(folder)
    if manifest is None or not consistent(manifest, folder):
        return [MANIFEST]
    return damaged_files(folder, manifest, output)


def consistent(manifest: Manifest, folder: Path) -> bool:
    """Say whether a manifest's digests follow from its own identity and files."""
    return (
        manifest.key == folder.name == key_of(manifest.identity) and output_digests(manifest.files) == manifest.outputs
    )


def damaged_files(folder: Path, manifest: Manifest, output: str | None = None) -> list[str]:
    """Return the files, of all outputs or of one, whose bytes are not those of the manifest, and strangers."""
    names = [name for name in manifest.files if output is None or name.split("/")[0] == output]
    bad = [name for name in names if _hash_or_none(folder / name) != manifest.files[name].sha256]
    found = folder / output if output else folder
    for path in sorted(found.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in manifest.files and name != MANIFEST and not name.startswith(PROGRESS):
            bad.append(name)
    return bad


def _hash_or_none(path: Path) -> str | None:
    try:
        return file_digest(path)
    except OSError:
        return None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _fsync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
