"""The items of evaluation sets as the texts by which a leaked one is known."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import source_files
from pipelines.corpus.decontaminate import SUFFIXES

MAX_LINE = 1 << 24
"""Characters of an item; a line without an end must not fill memory."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Item:
    """One item of a benchmark."""

    benchmark: str
    name: str
    own: tuple[str, ...]
    """Texts each of which is the item: any n-gram of them convicts."""
    joined: tuple[str, ...] = ()
    """The same with the wrong choices between: their n-grams convict, but for those of a wrong choice alone."""
    wrong: tuple[str, ...] = ()


def read_items(sets: Mapping[str, Path | None], mirror: Path | None) -> Iterator[Item]:
    """Yield the items of the run's own sets, by their names, and of the mirror's evaluation splits.

    Training splits are passed over, since models may be trained on those, but not where a set has no other split:
    BLiMP's only one is called train.
    """
    for benchmark, root in (*sets.items(), (None, mirror)):
        files = source_files(root, SUFFIXES, benchmark or "decontaminate.mirror") if root else {}
        scored = {_set_of(Path(name)) for name in files if not _is_train(Path(name))}
        for relative, path in files.items():
            place = Path(relative)
            if not (_is_train(place) and _set_of(place) in scored):
                yield from _file_items(path, place, benchmark or "/".join(place.parts[:-1][:2]) or place.stem)


def _is_train(place: Path) -> bool:
    """Say whether a file, or the folder it lies in, is named after a training split."""
    return any(re.match(r"train(?:[-._]|$)", part) for part in place.parts[-2:])


def _set_of(place: Path) -> Path:
    """Return the folder of a data set's splits."""
    return place.parent.parent if re.match(r"train(?:[-._]|$)", place.parent.name) else place.parent


def _file_items(path: Path, place: Path, benchmark: str) -> Iterator[Item]:
    stem = place.with_suffix("").as_posix().removeprefix(f"{benchmark}/")
    number = 0
    try:
        for number, row in enumerate(_rows(path)):
            yield to_item(benchmark, f"{stem}/{row.get('id', number)}", row)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, pa.ArrowException) as error:
        reason = str(error).replace("\n", " ")
        raise UserError(
            f"{benchmark}: row {number:,} of {place} cannot be read ({reason}); mend or remove it"
        ) from error


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".jsonl":
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in _bounded(lines) if line.strip())
        return
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1_000):
            yield from batch.to_pylist()


def _bounded(file: TextIO) -> Iterator[str]:
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise ValueError(f"a line has {MAX_LINE:,} characters or more")
        yield line


def to_item(benchmark: str, name: str, row: dict[str, Any]) -> Item:
    """Return the item that a row is: multiple choice, a conversation, a preference, or each of its texts by itself."""
    asked = row.get("question", row.get("query"))
    if "messages" in row or "chosen" in row:
        return Item(benchmark, name, _said(row))
    if asked is None or "choices" not in row:
        return Item(benchmark, name, tuple(text for text in row.values() if isinstance(text, str)))
    question, choices = str(asked), row["choices"]
    texts = [str(choice) for choice in (choices["text"] if isinstance(choices, dict) else choices)]
    right = _right(row, texts)
    answer = texts[right]
    lettered = " ".join(f"{letter} {text}" for letter, text in zip(LETTERS, texts, strict=False))
    return Item(
        benchmark,
        name,
        own=(question, answer, f"{question} {answer}"),
        joined=(f"{question} {' '.join(texts)}", f"{question} {lettered}"),
        wrong=tuple(text for place, text in enumerate(texts) if place != right),
    )


def _said(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the messages of a conversation, or of a prompt with its chosen answer, each and all together."""
    turns = row["messages"] if "messages" in row else [*row["prompt"], *row["chosen"]]
    texts = [str(turn["content"]) for turn in turns]
    return (*texts, " ".join(texts))


def _right(row: dict[str, Any], texts: list[str]) -> int:
    """Return the place of the right choice, given as a number, a letter or one of the row's own labels."""
    answer = next((row[name] for name in ("answer", "gold") if name in row), None)
    answer = row["answerKey"] if answer is None else answer
    if isinstance(row["choices"], dict):
        place = list(row["choices"]["label"]).index(answer)
    elif isinstance(answer, str) and not answer.isdecimal():
        place = LETTERS.index(answer)
    else:
        place = int(answer)
    if not 0 <= place < len(texts):
        raise ValueError(f"answer {answer!r} is none of {len(texts)} choices")
    return place
