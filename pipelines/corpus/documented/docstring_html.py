"""Docstrings as HTML: paragraphs, headings, lists, definitions and code, as a documentation site shows them."""

import re
from collections.abc import Iterator
from html import escape

from pipelines.corpus.documented.prose import unmarked

UNDERLINED = re.compile(r"^(\S.*)\n[=\-~^*#+]{3,}[ ]*(?:\n|$)", re.MULTILINE)
BULLET = re.compile(r"(?:[-*+•]|\d+[.)]) +")
DIRECTIVE = re.compile(r"\.\. ([a-z-]+):: ?(.*)")
CODE_DIRECTIVES = frozenset({"code", "code-block", "doctest", "math", "plot", "sourcecode", "testcode"})
PROMPTS = (">>>", "...", "$ ")
HEADING = "==="
LITERAL = re.compile(r"``(.+?)``", re.DOTALL)


def to_html(docstring: str) -> str:
    """Return the docstring as block elements."""
    separated = UNDERLINED.sub(rf"\n\n\1\n{HEADING}\n\n", docstring).replace("\n.. [", "\n[")
    return "\n".join(_blocks(re.split(r"\n[ ]*\n", separated)))


def inline(text: str) -> str:
    """Return a line of text with its markup as elements and everything else escaped."""
    pieces = LITERAL.split(" ".join(text.split()))
    return "".join(
        f"<code>{escape(piece)}</code>" if index % 2 else escape(unmarked(piece)) for index, piece in enumerate(pieces)
    )


def _blocks(paragraphs: list[str]) -> Iterator[str]:
    code_follows = False
    for paragraph in paragraphs:
        lines = paragraph.strip("\n").splitlines()
        if found := DIRECTIVE.fullmatch(lines[0]) if lines else None:
            code_follows = found[1] in CODE_DIRECTIVES
            said = [] if code_follows else [f"{found[1].capitalize()}: {found[2]}"]
            lines = said + lines[1:]
        if not lines:
            continue
        is_code = lines[0].lstrip().startswith(PROMPTS) or (code_follows and lines[0].startswith(" "))
        yield f"<pre><code>{escape(_dedented(lines))}</code></pre>" if is_code else _prose(lines)
        if not is_code:  # an example may go on after a blank line
            code_follows = lines[-1].rstrip().endswith("::")


def _prose(lines: list[str]) -> str:
    """Return lines that are no code as the element that their indentation and marks speak of."""
    hangs = any(line.startswith(" ") for line in lines) and not lines[0].startswith(" ")
    if len(lines) == 2 and lines[1] == HEADING:
        return f"<h3>{inline(lines[0])}</h3>"
    if BULLET.match(lines[0]) and all(BULLET.match(line) or line.startswith(" ") for line in lines):
        return _list(lines)
    if hangs or lines[0].startswith(":"):
        return _definitions(lines)
    return f"<p>{inline(' '.join(lines))}</p>"


def _dedented(lines: list[str]) -> str:
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[margin:] for line in lines)


def _grouped(lines: list[str]) -> list[list[str]]:
    """Return each line that starts at the margin with the indented ones that belong to it."""
    groups: list[list[str]] = []
    for line in lines:
        if line.startswith(" ") and groups:
            groups[-1].append(line)
        else:
            groups.append([line])
    return groups


def _list(lines: list[str]) -> str:
    items = [BULLET.sub("", group[0], count=1) + " " + " ".join(group[1:]) for group in _grouped(lines)]
    return "<ul>\n" + "\n".join(f"<li>{inline(item)}</li>" for item in items) + "\n</ul>"


def _definitions(lines: list[str]) -> str:
    parts = []
    for term, *body in _grouped(lines):
        parts.append(f"<dt>{inline(term)}</dt>")
        if body:
            parts.append(f"<dd>{inline(' '.join(body))}</dd>")
    return "<dl>\n" + "\n".join(parts) + "\n</dl>"
