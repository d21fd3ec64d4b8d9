"""The Python source files of installed packages, found by their lists of files: nothing is imported or parsed."""

import csv
import difflib
import os
import re
import sys
import sysconfig
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from pipelines.artifacts.errors import UserError

STANDARD_LIBRARY = "python"

SKIPPED_FOLDERS = frozenset(
    (
        *("test", "tests", "testdata"),
        *("_vendor", "vendor", "vendored", "_vendored", "extern", "externals", "third_party", "thirdparty"),
        *("site-packages", "dist-packages", "__pycache__", "idlelib", "lib2to3", "pydoc_data", "turtledemo"),
    )
)
"""Tests, other people's packages inside a package, and generated data: none of it is this package's documentation."""

SKIPPED_FILE = re.compile(r"test_.*|.*_test|conftest|__main__|setup")


def interpreter() -> str:
    """Return the version of Python, which decides what a syntax tree looks like."""
    return f"python {sys.version_info.major}.{sys.version_info.minor}"


def normal_name(package: str) -> str:
    """Return a distribution's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", package).lower()


def package_files(packages: Iterable[str]) -> dict[str, dict[str, Path]]:
    """Return the source files of each package by their names inside it, all sorted.

    Raises UserError for a package that is not installed or has no Python source.
    """
    return {package: _files(package) for package in sorted({normal_name(package) for package in packages})}


def _files(package: str) -> dict[str, Path]:
    found = _standard_library() if package == STANDARD_LIBRARY else _distribution(package)
    kept = {name: path for name, path in sorted(found.items()) if _is_documentation(name) and path.is_file()}
    if not kept:
        raise UserError(f"source.packages: {package!r} has no Python source in this environment; name another package")
    return kept


def _is_documentation(name: str) -> bool:
    folders, file = name.split("/")[:-1], name.rsplit("/", 1)[-1]
    return not SKIPPED_FOLDERS.intersection(folders) and not SKIPPED_FILE.fullmatch(file.removesuffix(".py"))


def _distribution(package: str) -> dict[str, Path]:
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        raise UserError(f"source.packages: {package!r} is not installed; {_remedy(package)}") from None
    record = distribution.read_text("RECORD") or ""
    names = [row[0] for row in csv.reader(record.splitlines()) if row and row[0].endswith(".py")]
    return {name: Path(str(distribution.locate_file(name))) for name in names if not name.startswith("..")}


def _remedy(package: str) -> str:
    installed = {normal_name(found.name) for found in metadata.distributions()} | {STANDARD_LIBRARY}
    near = difflib.get_close_matches(package, sorted(installed), n=1)
    return f"did you mean {near[0]!r}?" if near else "install it or name another package"


def _standard_library() -> dict[str, Path]:
    root = Path(sysconfig.get_path("stdlib"))
    found: dict[str, Path] = {}
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if name not in SKIPPED_FOLDERS]
        for file in files:
            if file.endswith(".py"):
                path = Path(folder, file)
                found[path.relative_to(root).as_posix()] = path
    return found
