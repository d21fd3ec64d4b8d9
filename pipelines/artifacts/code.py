"""The digest of a stage's code, recorded so that `explain` can say that it changed while the version did not."""

import ast
import hashlib
from functools import cache
from pathlib import Path

from pipelines.artifacts.stage import Stage

ROOM = Path(__file__).resolve().parents[1]


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Return the modules of this room that a module imports anywhere in its text."""
    source = _source(module)
    if source is None:
        return ()
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return tuple(sorted(name for name in found if name.startswith("pipelines.") and _path(name)))


@cache
def _source(module: str) -> bytes | None:
    """Return a module's text as it was when first asked for; what a process runs does not change either."""
    path = _path(module)
    return path.read_bytes() if path else None


@cache
def _path(module: str) -> Path | None:
    path = ROOM.parent.joinpath(*module.split(".")).with_suffix(".py")
    return path if path.is_file() else None


def code_modules(stage: Stage) -> list[str]:
    """Return the modules that the stage's function can reach, without the store's own, sorted."""
    pending, seen = [stage.run.__module__], set()
    while pending:
        module = pending.pop()
        if module in seen or module.startswith("pipelines.artifacts."):
            continue
        seen.add(module)
        pending += _imports(module)
    return sorted(seen)


def code_digest(stage: Stage) -> str:
    """Return the sha256 over the source of all modules that the stage's function can reach."""
    total = hashlib.sha256()
    for module in code_modules(stage):
        source = _source(module)
        source = stage.run.__code__.co_code if source is None else source  # None: a stage of a notebook
        total.update(module.encode() + b"\0" + source + b"\0")
    return total.hexdigest()
