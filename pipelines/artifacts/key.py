"""The key of an artifact: the hash of everything that decides its content, and of nothing else."""

import json
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pipelines.artifacts.canonical import digest_of
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.manifest import Output
from pipelines.artifacts.pins import PinCache, file_digest
from pipelines.artifacts.stage import Stage, StageConfig

PACKAGE = Path(__file__).resolve().parents[1]


@cache
def data_digest(name: str) -> str:
    """Return the sha256 of a file of this package, by its path inside it; raise UserError when it cannot be read."""
    try:
        return file_digest(PACKAGE / name)
    except OSError as error:
        raise UserError(f"package file {name!r} cannot be read ({error.strerror}); install gristmill anew") from error


@cache
def library_version(name: str) -> str:
    """Return the installed version of a library; raise UserError when it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError as error:
        raise UserError(f"library {name!r} is not installed; run pip install {name}") from error


def identity_of(stage: Stage, config: StageConfig, inputs: Mapping[str, Output], pins: PinCache) -> dict[str, Any]:
    """Return all that the key is the hash of, in parts that `explain` can compare.

    An input that is not built yet has no digest; the identity then holds None in its place and has no key.
    """
    identity: dict[str, Any] = {
        "stage": stage.name,
        "version": stage.version,
        "libraries": {name: library_version(name) for name in stage.libraries},
        "config": config.identity(),
        "roots": {name: root.pin(pins) for name, root in config.roots().items()},
        "inputs": {name: output.digest for name, output in inputs.items()},
    }
    if stage.data:
        identity["data"] = {name: data_digest(name) for name in stage.data}
    if stage.lineage:
        identity["lineage"] = {name: output.key for name, output in inputs.items()}
    return identity


def key_of(identity: dict[str, Any]) -> str:
    """Return the artifact's key: 64 hexadecimal digits."""
    return digest_of(identity)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return a line for each leaf in which two identities differ, as `config.max_steps: 40 → 60`."""
    lines: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            lines.append(f"{prefix}{name}: {_short(before)} → {_short(after)}")
    return lines


def _short(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:12] if len(text) == 64 and all(c in "0123456789abcdef" for c in text) else text
