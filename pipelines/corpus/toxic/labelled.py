"""Reads labelled texts: every row is a text, or several sentences, with its label, or is counted with a reason."""

import csv
import gzip
import json
import lzma
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from pipelines.artifacts.errors import UserError
from pipelines.corpus.toxic.scoring import plain
from pipelines.corpus.train_toxicity import LabelledSet

MAX_LINE = 1 << 20
"""Characters of a line: labelled texts are comments and paragraphs, and a line without an end must not fill memory."""
MIN_SENTENCE = 20
_NOISE = re.compile(r"&#?\w{1,10};|https?://\S+|@\w+|\bRT\b")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_OPENERS: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open}


class Text(NamedTuple):
    """A text and whether it is toxic."""

    text: str
    toxic: bool


def read_labelled(part: LabelledSet, seen: set[bytes], counts: Counter[str]) -> list[Text]:
    """Return the set's texts, at most `max_texts`, without those that `seen` holds, and add them to it.

    `seen` holds texts as the classifier reads them: one that stood in another set, or twice in this one, would be both
    learned and scored. `counts` gets `in` and `dropped.REASON`.
    """
    texts: list[Text] = []
    for found in _texts(part, counts):
        letters = plain(found.text)
        reason = "dropped.no_text" if not letters.strip() else "dropped.duplicate" if letters in seen else ""
        counts["in"] += 1
        counts[reason] += bool(reason)
        if not reason:
            seen.add(letters)
            texts.append(found)
        if len(texts) == part.max_texts:
            break
    for wanted in (False, True) if part.has_labels else (False,):
        if not any(found.toxic == wanted for found in texts):
            raise UserError(
                f"train_toxicity.sets: {part.name!r} has no text that is {'' if wanted else 'not '}toxic; check its "
                "label_field and toxic, or its path"
            )
    return texts


def _texts(part: LabelledSet, counts: Counter[str]) -> Iterator[Text]:
    for row in _rows(part):
        text, marks = row.get(part.text_field), _marks(part, row)
        if not isinstance(text, str) or marks is None:
            counts.update(["in", "dropped.no_label" if isinstance(text, str) else "dropped.no_text"])
            continue
        pieces = [(0, len(text))]
        if part.sentences:
            found = [match.span() for match in _SENTENCE.finditer(text)]
            pieces = [(start, end) for start, end in found if end - start >= MIN_SENTENCE]
        for start, end in pieces:
            toxic = marks if isinstance(marks, bool) else not marks.isdisjoint(range(start, end))
            yield Text(_NOISE.sub(" ", text[start:end]), toxic)


def _marks(part: LabelledSet, row: dict[str, Any]) -> bool | set[int] | None:
    """Return whether the row is toxic, or which of its characters are; None where it does not say."""
    if part.spans_field:
        try:
            places = row[part.spans_field]
            return {int(place) for place in (json.loads(places) if isinstance(places, str) else places)}
        except (KeyError, TypeError, ValueError, RecursionError):
            return None
    if not part.label_field:
        return False
    label = row.get(part.label_field)
    return None if label is None else str(label) in part.toxic


def _rows(part: LabelledSet) -> Iterator[dict[str, Any]]:
    for name, path in part.files().items():
        with _named(part, name), _opened(path) as file:
            lines = _lines(file)
            if part.format == "csv":
                yield from _table(part, csv.DictReader(lines))
            elif part.format == "jsonl":
                yield from (_object(line) for line in lines if line.strip())
            else:
                yield from ({part.text_field: line} for line in lines if line.strip())


def _table(part: LabelledSet, table: "csv.DictReader[str]") -> Iterator[dict[str, Any]]:
    wanted = {part.text_field, part.label_field or part.text_field, part.spans_field or part.text_field}
    missing = sorted(wanted - set(table.fieldnames or ()))
    if missing:
        raise UserError(
            f"train_toxicity.sets: {part.name!r} has no column {missing[0]!r} (it has "
            f"{', '.join(table.fieldnames or ()) or 'none'}); set text_field, label_field or spans_field"
        )
    yield from table


def _object(line: str) -> dict[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("a line is no JSON object")
    return row


def _opened(path: Path) -> TextIO:
    opened: TextIO = _OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8", errors="replace", newline="")
    return opened


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise ValueError(f"a line has {MAX_LINE:,} characters or more")
        yield line


@contextmanager
def _named(part: LabelledSet, name: str) -> Iterator[None]:
    """Turn what a damaged file raises into one line that names the set and the file."""
    try:
        yield
    except (OSError, EOFError, lzma.LZMAError, csv.Error, ValueError, RecursionError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"train_toxicity.sets: {name!r} of {part.name!r} cannot be read as {part.format} ({why}); mend or leave it"
        ) from error
