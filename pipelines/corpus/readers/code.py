"""Reading source code: a file is a document, dropped where it was not written by hand, here, or in lines.

The offset is 0 and the digest is that of the file's bytes. A tree says neither its URL nor its time: both are empty.
The licence is the one that the file itself states by SPDX's line, else that of the nearest licence file above it.
"""

import re
from pathlib import Path, PurePosixPath

from pipelines.corpus.readers.code_names import is_licence
from pipelines.corpus.readers.licences import is_permissive, nearest_licence, own_licence
from pipelines.corpus.readers.records import Dropped, Limits, Record, digest_of
from pipelines.corpus.readers.whole_file import is_binary, read_whole, text_of

VENDORED = frozenset(
    "_vendor vendor vendored _vendored extern external externals third_party thirdparty third-party node_modules "
    "bower_components jspm_packages pods carthage deps site-packages dist-packages".split()
)
"""Folders of other people's code, which has a home and a licence of its own."""
GENERATED_NAME = re.compile(
    r".*(?:[._]pb2?(?:_grpc)?\.\w+|\.min\.\w+|\.designer\.\w+|\.generated\.\w+|\.g\.\w+|[-.]bundle\.js|\.lock)",
    re.IGNORECASE,
)
GENERATED = re.compile(
    r"@generated\b|\bdo not (?:edit|modify)\b|^[\W\d_]*(?:(?:this|the) )?(?:(?:file|code|module|source|contents?) )?"
    r"(?:(?:is|was|were|has been|have been) )?(?:auto(?:matically)?[- ]?)?generated"
    r"(?= (?:by|from|with|using|at|on|automatically|code|files?|content)\b|[\s\W]*$)",
    re.IGNORECASE,
)
"""What generators say of a file in its head; Go fixes "Code generated … DO NOT EDIT." by rule."""
HEAD_LINES = 10
MAX_LINE_CHARS = 1_000
MAX_MEAN_LINE_CHARS = 100
MIN_ALPHANUMERIC = 0.25
"""Longest line, mean line and share of letters and digits of files kept by Chen et al. 2021 (Codex) and The Stack."""


def code_record(name: str, path: Path, root: Path, permissive_only: bool, limits: Limits) -> Record | Dropped:
    """Return a file of a tree of source code, or why it is left out."""
    place = PurePosixPath(name)
    reason = _misplaced(place)
    if reason:
        return Dropped(0, reason)
    body = read_whole(path, limits.page)
    if isinstance(body, Dropped):
        return body
    if is_binary(body):
        return Dropped(0, "binary")
    text = text_of(body)
    reason = _unwritten(text)
    if reason:
        return Dropped(0, reason)
    licence = own_licence(text) or nearest_licence(path.parent, root)
    if permissive_only and not is_permissive(licence):
        return Dropped(0, "licence_not_permissive")
    return Record(offset=0, digest=digest_of(body), url="", crawl_time="", content=text, is_html=False, licence=licence)


def _misplaced(place: PurePosixPath) -> str:
    """Return why a file of this name is none of the tree's own code, or an empty string."""
    folders = [folder.lower() for folder in place.parts[:-1]]
    if VENDORED.intersection(folders):
        return "vendored"
    if any(folder.startswith(".") for folder in folders):
        return "hidden"
    if is_licence(place.name):
        return "licence_file"
    return "generated" if GENERATED_NAME.fullmatch(place.name) else ""


def _unwritten(text: str) -> str:
    """Return why a text was not written by hand as code, or an empty string."""
    lines = text.splitlines()
    if any(GENERATED.search(line[:MAX_LINE_CHARS]) for line in lines[:HEAD_LINES]):
        return "generated"
    if max(map(len, lines), default=0) > MAX_LINE_CHARS:
        return "long_line"
    if len(text) > MAX_MEAN_LINE_CHARS * max(len(lines), 1):
        return "long_lines"
    if sum(map(str.isalnum, text)) < MIN_ALPHANUMERIC * len(text):
        return "few_letters"
    return ""
