"""How an artifact comes to be: look up, lock, build in the work directory, publish."""

import errno
import os
import platform
import shutil
import subprocess
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

from pipelines.artifacts.code import code_digest
from pipelines.artifacts.errors import DamagedArtifact, StageFailed, TemporaryFault, UserError
from pipelines.artifacts.key import identity_of, key_of
from pipelines.artifacts.lease import Lease
from pipelines.artifacts.manifest import Artifact, InputEntry, Manifest, Output
from pipelines.artifacts.peak import PeakMemory
from pipelines.artifacts.progress import say
from pipelines.artifacts.slot import device_slots
from pipelines.artifacts.stage import Metrics, Stage, StageConfig
from pipelines.artifacts.store import Store, hash_files, output_digests
from pipelines.artifacts.transient import is_transient
from pipelines.artifacts.work import await_orphans

FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Miss:
    """What the store lacks, and all that it takes to build it."""

    store: Store
    stage: Stage
    config: StageConfig
    inputs: Mapping[str, Output]
    node: str
    identity: dict[str, Any]
    key: str


@dataclass(frozen=True)
class Built:
    """An artifact and how it was come by."""

    artifact: Artifact
    manifest: Manifest
    hit: bool
    seconds: float


def build(store: Store, stage: Stage, config: StageConfig, inputs: Mapping[str, Output], *, node: str) -> Built:
    """Return the stage's artifact for this config and these inputs, from the store or newly built.

    Of two processes that ask for the same key, one builds and the other waits and reuses. Raises UserError for what
    the user can mend, StageFailed for what went wrong inside, DamagedArtifact when an input was quarantined.
    """
    started = time.perf_counter()
    identity = identity_of(stage, config, inputs, store.pins)
    store.pins.save()
    key = key_of(identity)
    manifest = store.find(stage.name, key)
    hit = manifest is not None
    miss = Miss(store, stage, config, inputs, node, identity, key)
    while manifest is None:
        with store.lock(stage.name, key, f"{node}: another run is building {key[:12]}; waiting for it") as lease:
            manifest = store.find(stage.name, key)
            hit = manifest is not None
            if manifest is None:
                manifest, hit = _fetch_or_build(miss, lease)
    if not hit and store.mirror:
        store.mirror.push(store.folder(stage.name, key), manifest, node)
    return Built(artifact_of(store, manifest, node), manifest, hit, time.perf_counter() - started)


def find_built(
    store: Store, stage: Stage, config: StageConfig, inputs: Mapping[str, Output], *, node: str
) -> Built | None:
    """Return the stage's artifact where the store has it, else None. Nothing is waited for."""
    started = time.perf_counter()
    identity = identity_of(stage, config, inputs, store.pins)
    store.pins.save()
    manifest = store.find(stage.name, key_of(identity))
    if manifest is None:
        return None
    return Built(artifact_of(store, manifest, node), manifest, True, time.perf_counter() - started)


def artifact_of(store: Store, manifest: Manifest, node: str) -> Artifact:
    """Return the reference to a published artifact, as the given node's."""
    folder = store.folder(manifest.stage, manifest.key)
    return Artifact(manifest.stage, node, manifest.key, folder, manifest.outputs)


def _fetch_or_build(miss: Miss, lease: Lease) -> tuple[Manifest | None, bool]:
    """Publish what the mirror has, or else build; return the manifest and whether it was fetched.

    There is none where this host was silent for so long that another took the key over.
    """
    store = miss.store
    try:
        fetched = store.mirror.pull(store, miss.stage.name, miss.key, miss.node, lease.check) if store.mirror else None
        if fetched:
            return fetched, True
        return _build_locked(miss, lease), False
    except Exception:
        if lease.held():
            raise
        short = miss.key[:12]
        say(f"{miss.node}: this host was silent for too long and another took {short} over; its artifact is used")
        return None, False


def _build_locked(miss: Miss, lease: Lease) -> Manifest:
    store, stage, node, key = miss.store, miss.stage, miss.node, miss.key
    if store.folder(stage.name, key).exists():
        lease.check()
        store.quarantine(stage.name, key)
    for output in miss.inputs.values():
        check_input(store, output)
    work = lease.work(store.work(stage.name, key).parent, resumable=stage.resumable)
    await_orphans(work)
    if not stage.resumable and work.exists():
        shutil.rmtree(work)
    work.mkdir(exist_ok=True)
    started, peak = time.perf_counter(), PeakMemory()
    metrics = _run(miss, work)
    if {name: root.pin(store.pins) for name, root in miss.config.roots().items()} != miss.identity["roots"]:
        shutil.rmtree(work)
        raise UserError(f"{node}: its source changed while it was read; run again when it is at rest")
    files = hash_files(work)
    stray = [name for name in files if "/" not in name]
    if stray or not files:
        raise StageFailed(f"{node}: wrote {', '.join(stray) or 'nothing'} outside its named outputs")
    manifest = Manifest(
        stage=stage.name,
        version=stage.version,
        key=key,
        config=miss.config.model_dump(mode="json"),
        identity=miss.identity,
        roots=miss.identity["roots"],
        inputs={
            name: InputEntry(stage=output.stage, key=output.key, output=output.name, digest=str(output.digest))
            for name, output in miss.inputs.items()
        },
        outputs=output_digests(files),
        files=files,
        libraries=miss.identity["libraries"],
        metrics=_checked(metrics, node),
        code=code_digest(stage),
        commit=commit(),
        seconds=round(time.perf_counter() - started, 3),
        peak_memory_bytes=peak.bytes(),
        built_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        host=platform.node(),
    )
    lease.check()
    with _named_io(store, node):
        return store.publish(manifest, work)


def check_input(store: Store, output: Output) -> None:
    """Re-hash an input that a stage is about to read; quarantine its artifact and raise when it is damaged."""
    bad = store.quarantine_if_damaged(output.stage, output.key, output.name)
    if bad or not store.folder(output.stage, output.key).exists():
        what = f"{bad[0]} of {output.key[:12]} is damaged" if bad else f"{output.key[:12]} has left the store"
        raise DamagedArtifact(f"{output.node}: {what}; it is rebuilt")


def _run(miss: Miss, work: Path) -> Metrics:
    store, node = miss.store, miss.node
    paths = {name: output.path for name, output in miss.inputs.items()}
    try:
        with _named_io(store, node), device_slots(miss.config.devices(), node):
            return miss.stage.run(miss.config, **paths, out=work)
    except UserError:
        raise
    except StageFailed as error:
        if is_transient(error):
            raise TemporaryFault(str(error)) from error
        raise
    except Exception as error:
        trace = store.root / ".failures" / f"{node}-{miss.key[:12]}.txt"
        with suppress(OSError):  # the disk may be what failed
            trace.parent.mkdir(parents=True, exist_ok=True)
            trace.write_text(traceback.format_exc())
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        kind = TemporaryFault if is_transient(error) else StageFailed
        raise kind(f"{node}: {cause} (traceback in {trace})") from error


class _named_io:
    """Turns a full or failing disk into one line that names the stage, the folder and the remedy."""

    def __init__(self, store: Store, node: str) -> None:
        self.store, self.node = store, node

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or not isinstance(error, Exception) or not is_full_disk(error):
            return
        raise StageFailed(
            f"{self.node}: no space left on the disk of {str(self.store.root)!r}; free some and run again: what is "
            "finished is kept"
        ) from error


def is_full_disk(error: BaseException) -> bool:
    """Say whether an error, or what caused it, is a disk that took no more bytes."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in FULL_DISK:
            return True
        if os.strerror(errno.ENOSPC) in str(seen):  # safetensors and Arrow wrap the number in a text
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _checked(metrics: Metrics, node: str) -> Metrics:
    for name, value in metrics.items():
        if not isfinite(value):
            raise StageFailed(f"{node}: metric {name} is {value}, which no manifest may hold")
    return {name: float(value) for name, value in sorted(metrics.items())}


@cache
def commit() -> str | None:
    """Return the commit of the checkout that this code runs from; None outside a checkout."""
    room = Path(__file__).resolve().parents[2]
    try:
        done = subprocess.run(
            ["git", "-C", str(room), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
