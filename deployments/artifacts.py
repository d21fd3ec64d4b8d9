"""`gristmill artifacts`: what the store holds, whether it is sound, and what may go."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.table import Table

from deployments.options import JsonOption, MirrorOption, Options, StoreOption, open_store
from deployments.tables import console, print_json
from pipelines.artifacts.collect import collect, sweep
from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.manifest import Manifest
from pipelines.artifacts.mirror import Mirror
from pipelines.artifacts.progress import track
from pipelines.artifacts.store import Store

app = App(name="artifacts", help="List, show, verify and collect what the store holds.")


@app.command(name="list")
def list_artifacts(stage: str | None = None, *, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the artifacts, of all stages or of one."""
    manifests = list(open_store(store).manifests(stage))
    if as_json:
        return print_json(
            [manifest.model_dump(include={"stage", "key", "outputs", "built_at"}) for manifest in manifests]
        )
    table = Table("stage", "key", "built", box=None, pad_edge=False)
    table.add_column("MiB", justify="right")
    table.add_column("seconds", justify="right")
    for item in manifests:
        table.add_row(item.stage, item.key[:12], item.built_at[:19], f"{item.bytes / 2**20:.1f}", f"{item.seconds:.1f}")
    console().print(table)
    console().print(f"{len(manifests)} artifacts, {sum(item.bytes for item in manifests) / 2**20:.1f} MiB")
    return None


@app.command
def show(key: str, *, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Print one manifest, always as JSON; KEY may be its first digits."""
    del as_json  # there is no other form
    print_json(_named(open_store(store), key).model_dump())


@app.command
def verify(key: str | None = None, *, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Hash every file again; what does not match its manifest goes to quarantine and is rebuilt by the next run."""
    opened = open_store(store)
    folders = [opened.folder(found.stage, found.key) for found in [_named(opened, key)]] if key else opened.folders()
    damaged = {}
    for folder in track(folders, "Verifying", total=len(folders), unit="artifacts"):
        bad = opened.quarantine_if_damaged(folder.parent.name, folder.name)
        if bad:
            damaged[f"{folder.parent.name}/{folder.name[:12]}"] = bad
    if as_json:
        print_json({"verified": len(folders), "damaged": damaged})
    else:
        console().print(f"{len(folders)} verified, {len(damaged)} damaged")
    if damaged:
        name, files = next(iter(damaged.items()))
        raise StageFailed(f"artifacts: {name} is damaged ({files[0]}); it is quarantined, run the recipe again")


@app.command
def push(
    key: str | None = None, *, mirror: MirrorOption = None, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Send artifacts to the mirror, all or one; what it has is not sent again."""
    opened, place = _mirrored(store, mirror)
    done = {"sent": 0, "there": 0, "failed": 0}
    for item in [_named(opened, key)] if key else opened.manifests():
        done[place.push(opened.folder(item.stage, item.key), item, item.stage)] += 1
    _tell_mirrored(done, "artifacts push", as_json)


@app.command
def pull(
    key: str | None = None, *, mirror: MirrorOption = None, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Fetch artifacts from the mirror, all or one; KEY may be its first digits."""
    opened, place = _mirrored(store, mirror)
    opened.prepare()
    names = [name for name in place.names() if name[1].startswith(key or "")]
    if key and len(names) != 1:
        raise UserError(f"key: {key!r} fits {len(names)} artifacts of the mirror {place.uri!r}; give all of its digits")
    done = {"fetched": 0, "there": 0, "failed": 0}
    for stage, found in names:
        with opened.lock(stage, found) as lease:
            if opened.find(stage, found):
                done["there"] += 1
            else:
                done["fetched" if place.pull(opened, stage, found, stage, lease.check) else "failed"] += 1
    _tell_mirrored(done, "artifacts pull", as_json)


def _mirrored(store: Path | None, mirror: str | None) -> tuple[Store, Mirror]:
    opened = Options(store=store, mirror=mirror).open_store()
    if opened.mirror is None:
        raise UserError("--mirror: none is given; name a folder or URI, or set GRISTMILL_MIRROR")
    return opened, opened.mirror


def _tell_mirrored(done: dict[str, int], what: str, as_json: bool) -> None:
    if as_json:
        print_json(done)
    else:
        console().print(", ".join(f"{count} {name}" for name, count in done.items()))
    if done["failed"]:
        raise StageFailed(f"{what}: {done['failed']} of {sum(done.values())} failed; run it again to go on")


@app.command
def gc(
    *,
    keep_runs: Annotated[int, Parameter(help="How many of the newest runs keep their artifacts.")] = 5,
    dry_run: Annotated[bool, Parameter(help="Only say what would go.", negative="")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove what no recent run used: artifacts, abandoned work directories, quarantine."""
    opened = open_store(store)
    plan = collect(opened, keep_runs)
    freed = sum(size for _, size in plan)
    if not dry_run:
        sweep(opened, plan)
    if as_json:
        return print_json({"removed": [str(path) for path, _ in plan], "bytes": freed, "dry_run": dry_run})
    for path, size in plan:
        console().print(f"{size / 2**20:9.1f} MiB  {path}")
    console().print(f"{len(plan)} folders, {freed / 2**20:.1f} MiB {'would be' if dry_run else ''} removed")
    return None


def _named(store: Store, key: str) -> Manifest:
    found = [manifest for manifest in store.manifests() if manifest.key.startswith(key)]
    if len(found) != 1:
        many = "fits several artifacts; give more digits" if found else "is no artifact; see gristmill artifacts list"
        raise UserError(f"key: {key!r} {many}")
    return found[0]
