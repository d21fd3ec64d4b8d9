"""What may leave the store: artifacts that no recent run used, abandoned work, quarantine."""

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.lease import held_elsewhere
from pipelines.artifacts.manifest import MANIFEST
from pipelines.artifacts.registry import kept as kept_by_registry
from pipelines.artifacts.store import Store
from pipelines.artifacts.work import read_progress


def run_records(store: Store) -> list[Path]:
    """Return the records of finished runs, newest first."""
    return sorted((store.root / ".runs").glob("[!.]*.json"), reverse=True)


def named_in(store: Store, value: object) -> list[tuple[str, str]]:
    """Return the artifacts that a config names by their path, such as the index of an earlier deduplication."""
    if isinstance(value, Mapping):
        return [found for held in value.values() for found in named_in(store, held)]
    if isinstance(value, list):
        return [found for held in value for found in named_in(store, held)]
    if not isinstance(value, str) or "/" not in value:
        return []
    path, root = Path(value).absolute(), store.root.absolute()
    parts = path.relative_to(root).parts if path.is_relative_to(root) else ()
    return [(parts[0], parts[1])] if len(parts) > 1 else []


def collect(store: Store, keep_runs: int) -> list[tuple[Path, int]]:
    """Return what may go, with sizes: all that is not reachable from the newest `keep_runs` runs or the registry.

    What those runs used stays, and all that it was built from, and all that came into the store since the newest of
    them: a run may be under way. So do the served model and the one that a rollback brings back, and unfinished work
    with committed progress.
    """
    if keep_runs < 1:
        raise UserError(f"--keep-runs: {keep_runs} keeps nothing; give 1 or more")
    kept: set[tuple[str, str]] = set()
    manifests = {(item.stage, item.key): item for item in store.manifests()}
    paths = run_records(store)[:keep_runs]
    records = [json.loads(path.read_text()) for path in paths]
    since = paths[0].stat().st_mtime if paths else 0.0
    for used in [
        kept_by_registry(store),
        *([(node["stage"], node["key"]) for node in item["nodes"]] for item in records),
    ]:
        pending = [*used, *(name for name in manifests if _published_at(store, name) >= since)]
        while pending:
            name = pending.pop()
            if name in manifests and name not in kept:
                kept.add(name)
                pending += [(entry.stage, entry.key) for entry in manifests[name].inputs.values()]
                pending += named_in(store, manifests[name].config)
    unused = [store.folder(stage, key) for stage, key in manifests if (stage, key) not in kept] if records else []
    work = [path for path in sorted((store.root / ".work").glob("*/*")) if path.is_dir() and _abandoned(store, path)]
    left = [*sorted((store.root / ".quarantine").glob("*/*")), *sorted(store.root.glob("[!.]*/.gone.*"))]
    return [(path, _bytes(path)) for path in (*unused, *work, *left)]


def sweep(store: Store, plan: list[tuple[Path, int]]) -> None:
    """Remove what `collect` named. A published artifact first leaves its name, so that no reader sees half of it."""
    for path, _ in plan:
        stage, key = path.parent.name, path.name
        if path.parent.parent != store.root or key.startswith(".gone"):
            if not _locked(store, path):
                shutil.rmtree(path, ignore_errors=True)
        elif path.exists():
            with store.lock(stage, key):
                gone = path.with_name(f".gone.{key}.{os.getpid()}")
                path.rename(gone)
                shutil.rmtree(gone)


def _published_at(store: Store, name: tuple[str, str]) -> float:
    """Return when an artifact came into this store; one from a mirror was built long before."""
    return (store.folder(*name) / MANIFEST).stat().st_mtime


def _abandoned(store: Store, work: Path) -> bool:
    """Say whether nobody builds in this work directory and nothing in it would spare a later build anything."""
    stage, key = work.parent.name, work.name.split(".")[0]
    going_on = work == store.work(stage, key) or work.name.endswith(".left")
    return not (going_on and read_progress(work)) and not _locked(store, work)


def _locked(store: Store, work: Path) -> bool:
    """Say whether some process is building in this work directory, here or on another host."""
    stage, key = work.parent.name, work.name.split(".")[0]
    lock = store.root / ".locks" / stage / key
    if held_elsewhere(store.leases(stage, key)):
        return True
    if not lock.exists():
        return False
    with lock.open("r+b") as handle:  # NFS locks for writing only what is open for writing
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
