"""Functions compiled by numba, once for each version of the sources: the machine code is kept in a folder of its own.

Numba alone looks only at the file of the function itself: a change in what it calls, or in a constant that it uses,
would leave old machine code in force.
"""

import hashlib
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from numba import config, njit

P = ParamSpec("P")
R = TypeVar("R")

HERE = Path(__file__).parent
_IMPORT = re.compile(r"^from pipelines\.corpus\.?([\w.]*) import (\([^)]*\)|.*)$", re.MULTILINE)


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function compiled for the types that it is called with; it runs without the GIL, its integers wrap."""
    settings: Any = config
    compiler: Any = njit
    folder = _folder(settings.CACHE_DIR)
    if folder is None:
        plain: Callable[P, R] = compiler(nogil=True)(function)
        return plain
    asked, settings.CACHE_DIR = settings.CACHE_DIR, str(folder)
    try:
        found: Callable[P, R] = compiler(cache=True, nogil=True)(function)
    finally:
        settings.CACHE_DIR = asked
    return found


@cache
def _folder(asked: str) -> Path | None:
    """Return where machine code is kept: where the user asks, beside the source, or in the user's cache, the first that
    can be written; None where none can, and each process compiles for itself."""
    for base in (asked or str(HERE / "__pycache__"), "~/.cache/gristmill"):
        try:
            folder = Path(base).expanduser() / f"kernels-{_sources()}"
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):  # RuntimeError: this user has no home
            continue
        if os.access(folder, os.W_OK):
            return folder
    return None


@cache
def _sources() -> str:
    """Return a digest of the modules that hold compiled functions and of those that they import."""
    texts = {
        ".".join(path.relative_to(HERE).with_suffix("").parts): path.read_text("utf-8") for path in HERE.rglob("*.py")
    }
    held = sorted(name for name, text in texts.items() if "corpus.compiled import" in text)
    for name in held:  # grows on the way
        imported = {dotted for found in _IMPORT.finditer(texts[name]) for dotted in _named(found[1], found[2])}
        held += sorted(imported & texts.keys() - set(held))
    digest = hashlib.sha256()
    for name in sorted(held):
        digest.update(texts[name].encode())
    return digest.hexdigest()[:16]


def _named(module: str, names: str) -> set[str]:
    """Return the modules that an import may mean: the one it names, and those of the names that it takes from it."""
    return {module, *(f"{module}.{name}".lstrip(".") for name in re.findall(r"\w+", names))}
