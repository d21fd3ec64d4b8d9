"""Licences by their SPDX identifiers: of a link, of a source file's own line, and of the nearest licence file."""

import os
import re
from functools import lru_cache
from pathlib import Path

from pipelines.corpus.readers.code_names import is_licence
from pipelines.corpus.readers.records import storable

UNKNOWN = "NOASSERTION"
"""SPDX's word for a licence that could not be told."""
NONE = "NONE"
"""SPDX's word for no licence stated anywhere."""
PERMISSIVE = frozenset(
    "0BSD AFL-3.0 Apache-2.0 Artistic-2.0 BlueOak-1.0.0 BSD-2-Clause BSD-2-Clause-Patent BSD-3-Clause "
    "BSD-3-Clause-Clear BSL-1.0 CC-BY-4.0 CC0-1.0 ECL-2.0 ISC MIT MIT-0 MulanPSL-2.0 NCSA PostgreSQL PSF-2.0 "
    "Python-2.0 Unlicense UPL-1.0 Vim WTFPL X11 Zlib".split()
)
"""Licences that ask for attribution at most; the list of the Blue Oak Council, as far as it is met in practice."""
MAX_LICENCE_BYTES = 1 << 17
HEADER_CHARS = 4_000
OWN_LINE = re.compile(r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+\-() \t]{1,120})")
WORD = re.compile(r"[A-Za-z0-9.+\-]+")
COMMONS = re.compile(r"creativecommons\.org/licenses/(by(?:-nc)?(?:-sa|-nd)?)/(\d\.\d)", re.IGNORECASE)
MAX_WORDS = 200


def licence_of_url(address: str) -> str:
    """Return the SPDX identifier of a Creative Commons address, else the address itself."""
    found = COMMONS.search(address)
    if found:
        return f"CC-{found[1].upper()}-{found[2]}"
    if "creativecommons.org/publicdomain/zero/1.0" in address.lower():
        return "CC0-1.0"
    if "creativecommons.org/publicdomain/mark/1.0" in address.lower():
        return "CC-PDM-1.0"
    return storable(address)[:MAX_WORDS]


def licence_in_words(rights: str) -> str:
    """Return the identifier of a licence that a statement of rights links to, else the statement, cut if long."""
    return licence_of_url(rights)


def own_licence(text: str) -> str:
    """Return the licence that a file states by SPDX's line in its head, or an empty string."""
    found = OWN_LINE.search(text, 0, HEADER_CHARS)
    return " ".join(found[1].split()).rstrip("- ") if found else ""


def nearest_licence(folder: Path, root: Path) -> str:
    """Return the licence of the nearest folder up to `root` that holds a licence file.

    Several licence files in one folder are joined by AND, the cautious reading: each of them is kept.
    """
    while True:
        found = sorted({_identified(path, _stamp(path)) for path in licence_files(folder)})
        if found:
            return " AND ".join(found)
        if folder == root or folder == folder.parent:
            return NONE
        folder = folder.parent


def licence_files(folder: Path) -> list[Path]:
    """Return the regular files of a folder that are named like a licence."""
    with os.scandir(folder) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if is_licence(entry.name) and not entry.is_symlink() and entry.is_file()
        )


def is_permissive(licence: str) -> bool:
    """Return whether a licence expression can be met by attribution alone: each part of AND, or one of OR."""
    either = [option for option in re.split(r"\bOR\b", licence.replace("(", " ").replace(")", " ")) if option.strip()]
    return any(
        all(word in PERMISSIVE for word in WORD.findall(re.sub(r"\bAND\b|\bWITH\s+\S+", " ", option)))
        for option in either
    )


def _stamp(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=4_096)
def _identified(path: Path, stamp: tuple[int, int, int]) -> str:
    """Return the identifier of a licence text by its edit distance to those of choosealicense.com, under 5%."""
    from identify.identify import license_id

    if not 0 < stamp[1] <= MAX_LICENCE_BYTES:
        return UNKNOWN
    try:
        return license_id(str(path)) or UNKNOWN
    except (UnicodeDecodeError, OSError):
        return UNKNOWN
