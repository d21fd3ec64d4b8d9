"""Functions compiled by numba, once for each version of the sources: the machine code is kept in a folder of its own.

Numba alone looks only at the file of the function itself: a change in what it calls, or in a constant that it uses,
would leave old machine code in force.
"""

import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from numba import config, njit

P = ParamSpec("P")
R = TypeVar("R")

HERE = Path(__file__).parent
_IMPORT = re.compile(rb"^from pipelines\.corpus\.(\w+) import", re.MULTILINE)


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function compiled for the types that it is called with; it runs without the GIL, its integers wrap."""
    settings: Any = config
    compiler: Any = njit
    asked = settings.CACHE_DIR
    settings.CACHE_DIR = str(Path(asked or HERE / "__pycache__") / f"kernels-{_sources()}")
    try:
        found: Callable[P, R] = compiler(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder to keep the code in can be written: it is compiled in every process
        found = compiler(nogil=True)(function)
    finally:
        settings.CACHE_DIR = asked
    return found


@cache
def _sources() -> str:
    """Return a digest of the modules that hold compiled functions and of those that they import."""
    texts = {path.stem: path.read_bytes() for path in HERE.glob("*.py")}
    held = sorted(name for name, text in texts.items() if b"corpus.compiled import" in text)
    for name in held:  # grows on the way
        imported = {found.decode() for found in _IMPORT.findall(texts[name])}
        held += sorted(imported & texts.keys() - set(held))
    digest = hashlib.sha256()
    for name in sorted(held):
        digest.update(texts[name])
    return digest.hexdigest()[:16]
