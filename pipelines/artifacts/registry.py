"""The registry: which packaged model is served, one atomic pointer, and every decision about it as a record.

`registry/current` holds the record that is in force, whole; `registry/history/` holds each record ever made. The
pointer is moved first, in one rename, and its record is then filed in the history: a kill between the two loses
nothing, since the pointer carries what the history lacks and the next writer files it. A record that moved nothing, a
refusal, is written to the history alone.
"""

import getpass
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any

from pydantic import ValidationError

from pipelines.artifacts.canonical import digest_of
from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.lineage import nearest
from pipelines.artifacts.records import BUNDLE, FORMAT, MOVES, Action, Decision, Promoted, Record, Stop
from pipelines.artifacts.store import REGISTRY, Store, damage
from pipelines.artifacts.work import fsync_dir


def current(store: Store) -> Promoted | None:
    """Return the model that is served, None where none was ever promoted; raise UserError where that is in doubt."""
    record = current_record(store)
    return record.model if record else None


def current_record(store: Store) -> Record | None:
    """Return the record in force, None where none was ever; raise UserError for a pointer that is damaged or gone."""
    pointer = pointer_of(store)
    try:
        content = pointer.read_bytes()
    except FileNotFoundError:
        moved = _moves(store)
        if moved:
            raise UserError(_told(pointer, "is gone", moved[-1])) from None
        return None
    except OSError as error:
        raise UserError(f"registry: {pointer} cannot be read ({error.strerror}); mend its permissions") from error
    record = _parsed(content)
    if record is None or record.action not in MOVES:
        moved = _moves(store)
        raise UserError(_told(pointer, "is damaged", moved[-1] if moved else None))
    return record


def history(store: Store) -> list[Record]:
    """Return every record, oldest first; raise UserError naming one that is damaged."""
    records = {}
    for file in _files(store):
        record = _parsed(file.read_bytes())
        if record is None or record.file != file.name:
            raise UserError(f"registry: {file} is damaged; restore it from a copy, or move it away to go on without it")
        records[record.number] = record
    now = current_record(store)
    if now:  # a kill after the pointer was moved leaves its record to be filed by the next writer
        records.setdefault(now.number, now)
    return [records[number] for number in sorted(records)]


def candidate(store: Store, key: str) -> Promoted:
    """Return the packaged model with this key of `package` and what is behind it; raise UserError where it is gone."""
    manifest = store.find("package", key)
    if manifest is None or BUNDLE not in manifest.outputs:
        raise UserError(f"bundle: package/{key[:12]} is not whole in {str(store.root)!r}; run the recipe again")
    try:
        nodes = {item.stage: item.key for item in nearest(store.folder("package", key)) if item.stage != "package"}
    except StageFailed as error:
        raise UserError(f"bundle: package/{key[:12]}: {error}") from error
    return Promoted(name=str(manifest.config["name"]), key=key, digest=manifest.outputs[BUNDLE], nodes=nodes)


def promote(store: Store, decision: Decision) -> Record:
    """Make the challenger current, or file its refusal; return the record.

    A challenger that is current already changes nothing: the record in force comes back. Raises UserError where the
    pointer has moved since the decision was made: its champion is not the one that was compared with.
    """
    with _writing(store) as (now, number):
        if now and now.model.digest == decision.challenger.digest:
            return now
        if (now.model if now else None) != decision.champion:
            raise UserError("registry: another model was promoted while the gates ran; run promote again")
        if not decision.passed:
            record = _made(number, "refused", decision.challenger, decision=decision)
            _file(store, record)
            return record
        previous = now.number if now else None
        return _move(store, _made(number, "promoted", decision.challenger, previous=previous, decision=decision))


def stop(store: Store, served: Promoted, why: Stop) -> Record:
    """File that a retraining of the served model ended before there was a challenger; return the record."""
    with _writing(store) as (_, number):
        record = _made(number, "stopped", served, stop=why)
        _file(store, record)
        return record


def rollback(store: Store) -> Record:
    """Bring back the model that served before the current one and return the record; a second one goes further back.

    Raises UserError where there is nothing to go back to, or what is there does not hold together any more.
    """
    with _writing(store) as (now, number):
        if now is None:
            raise UserError("rollback: nothing was ever promoted; gristmill promote makes a first model current")
        if now.previous is None:
            raise UserError(f"rollback: {now.model.key[:12]} is the first model promoted; there is none before it")
        target = next((record for record in history(store) if record.number == now.previous), None)
        if target is None:
            raise UserError(f"rollback: record {now.previous} has left the history; promote a model by its key instead")
        _check(store, target.model)
        return _move(
            store, _made(number, "rolled-back", target.model, previous=target.previous, restores=target.number)
        )


def kept(store: Store) -> list[tuple[str, str]]:
    """Return the artifacts that must stay whatever runs are kept: the served model's and the rollback target's."""
    now = current_record(store)
    if now is None:
        return []
    records = [now, *(record for record in history(store) if record.number == now.previous)]
    return [("package", record.model.key) for record in records]


def pointer_of(store: Store) -> Path:
    """Return the pointer's path, for whoever watches it."""
    return store.root / REGISTRY / "current"


def _check(store: Store, model: Promoted) -> None:
    folder = store.folder("package", model.key)
    bad = damage(folder, BUNDLE) if folder.exists() else [BUNDLE]
    if bad:
        what = f"{bad[0]} is damaged" if folder.exists() else "has left the store"
        raise UserError(f"rollback: package/{model.key[:12]}: {what}; the current model stays, rebuild that one first")


@contextmanager
def _writing(store: Store) -> Iterator[tuple[Record | None, int]]:
    """Yield the record in force and the next number, as the only writer; a record left unfiled by a kill is filed."""
    with store.lock(REGISTRY, "current", waiting="registry: another process moves the pointer; waiting for it"):
        now = current_record(store)
        if now and not (_folder(store) / now.file).exists():
            _file(store, now)
        numbers = [int(file.name.partition("-")[0]) for file in _files(store)]
        yield now, max(numbers, default=0) + 1


def _made(number: int, action: Action, model: Promoted, **more: Any) -> Record:
    log = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "user": _user(),
        "host": platform.node(),
    }
    unsigned = Record(number=number, action=action, model=model, log=log, digest="", **more)
    return unsigned.model_copy(update={"digest": _digest(unsigned)})


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return str(os.getuid())


def _digest(record: Record) -> str:
    return digest_of(record.model_dump(mode="json", exclude={"digest"}))


def _move(store: Store, record: Record) -> Record:
    """Make the record current, then file it."""
    _replace(pointer_of(store), record)
    _file(store, record)
    return record


def _file(store: Store, record: Record) -> None:
    _replace(_folder(store) / record.file, record)


def _replace(path: Path, record: Record) -> None:
    """Write the record at `path` in one rename that survives a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(".next")  # one writer at a time: what a kill left there is written over
    with fresh.open("w", encoding="utf-8") as file:
        file.write(json.dumps(record.model_dump(mode="json"), indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    fsync_dir(path.parent)


def _parsed(content: bytes) -> Record | None:
    """Return the record, None where the bytes are not what was written."""
    try:
        record = Record.model_validate_json(content)
    except ValidationError:
        return None
    return record if record.format == FORMAT and record.digest == _digest(record) else None


def _folder(store: Store) -> Path:
    return store.root / REGISTRY / "history"


def _files(store: Store) -> list[Path]:
    return sorted(_folder(store).glob("[0-9]*-*.json"))


def _moves(store: Store) -> list[Path]:
    return [file for file in _files(store) if file.stem.partition("-")[2] in MOVES]


def _told(pointer: Path, what: str, newest: Path | None) -> str:
    remedy = (
        f"cp {quote(str(newest))} {quote(str(pointer))} restores the newest record"
        if newest
        else "restore it from a copy"
    )
    return f"registry: {pointer} {what}, and no model is guessed; {remedy}"
