"""A local mirror of evaluation data sets: files as their authors publish them, laid out as the hub lays them out.

lm-eval's official tasks then run without a network. What a source lacks is not made up: where one text stands in for
another, or a part is absent, the data set's card says so in `note`, and the scores carry that note.
"""

import csv
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipelines.artifacts.errors import UserError

Rows: TypeAlias = list[dict[str, Any]]
Parts: TypeAlias = dict[str, dict[str, Rows]]
"""Rows by configuration and split."""

FEW_SHOT_ITEMS = 25
"""Items of a set with one published split that are kept for solved examples."""
PARADIGMS = 67
PAGES, PAGE_CHARS = 6, 20_000


@dataclass(frozen=True)
class Source:
    """How a published file becomes a data set of the hub."""

    data_set: str
    file: str
    read: Callable[[Path], tuple[Parts, str]]
    """Returns the rows and the note."""


def build_mirror(sources: Path, mirror: Path) -> list[str]:
    """Write each data set whose file lies in or below `sources` to `mirror` and return their ids on the hub.

    Raises UserError where no known file is found.
    """
    built = []
    for source in SOURCES:
        found = sorted(sources.rglob(source.file))
        if found:
            write_data_set(mirror / source.data_set, *source.read(found[0]))
            built.append(source.data_set)
    if not built:
        known = ", ".join(source.file for source in SOURCES)
        raise UserError(f"sources: {sources} holds none of {known}; name the folder of the benchmarks' files")
    return built


def write_data_set(folder: Path, parts: Parts, note: str) -> None:
    """Write Parquet files and the card that tells readers of the hub's layout which is which."""
    configs = []
    for part, splits in parts.items():
        files = []
        for split, rows in splits.items():
            path = folder / part / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
            files.append({"split": split, "path": path.relative_to(folder).as_posix()})
        configs.append({"config_name": part, "data_files": files})
    header = yaml.safe_dump({"configs": configs, "note": note}, sort_keys=False)
    (folder / "README.md").write_text(f"---\n{header}---\n\nA local mirror. {note}\n", encoding="utf-8")


def _members(archive: Path) -> Iterator[tuple[str, str]]:
    """Yield name and text of each file in a compressed archive, in its order."""
    with tarfile.open(archive, "r|xz") as opened:
        for member in opened:
            file = opened.extractfile(member)
            if file is not None:
                yield member.name, file.read().decode("utf-8-sig")


def _mmlu(archive: Path) -> tuple[Parts, str]:
    parts: Parts = {}
    for name, text in _members(archive):
        kind, file = name.split("/")[-2:]
        subject = file.removesuffix(f"_{kind}.csv")
        rows = [
            {"question": question, "subject": subject, "choices": choices, "answer": "ABCD".index(answer)}
            for question, *choices, answer in csv.reader(io.StringIO(text, newline=""))
        ]
        parts.setdefault(subject, {})[{"val": "validation"}.get(kind, kind)] = rows
    if all("test" in splits for splits in parts.values()):
        return parts, "MMLU as published."
    for splits in parts.values():
        splits["test"] = splits.pop("validation")
    return parts, "MMLU's validation split stands in for its test split."


def _blimp(archive: Path) -> tuple[Parts, str]:
    read = ((name, [json.loads(line) for line in text.splitlines()]) for name, text in _members(archive))
    parts: Parts = {Path(name).stem: {"train": rows} for name, rows in read}
    return parts, f"{len(parts)} of BLiMP's {PARADIGMS} paradigms."


def _crows_pairs(path: Path) -> tuple[Parts, str]:
    columns = ("sent_more", "sent_less", "stereo_antistereo", "bias_type")
    with lzma.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = [{name: row[name] for name in columns} for row in csv.DictReader(file)]
    return {"english": {"test": rows}}, f"The {len(rows):,} pairs of the original CrowS-Pairs, not the hub's revision."


def _arc_easy(path: Path) -> tuple[Parts, str]:
    rows = []
    with lzma.open(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file):
            item = json.loads(line)
            labels = list("ABCDE"[: len(item["choices"])])
            rows.append(
                {
                    "id": str(number),
                    "question": item["query"].removeprefix("Question: "),
                    "choices": {"text": item["choices"], "label": labels},
                    "answerKey": labels[item["gold"]],
                }
            )
    shown, asked = rows[-FEW_SHOT_ITEMS:], rows[:-FEW_SHOT_ITEMS]
    note = f"One published split; its last {FEW_SHOT_ITEMS} items are kept for solved examples and not asked."
    return {"ARC-Easy": {"train": shown, "validation": shown, "test": asked}}, note


def _prose(archive: Path) -> tuple[Parts, str]:
    pages = [{"page": text[:PAGE_CHARS]} for _, text in islice(_members(archive), PAGES)]
    note = "Openings of English novels stand in for WikiText, which is absent; no figure is comparable with WikiText's."
    return {"wikitext-2-raw-v1": {"train": pages[:1], "validation": pages[1:2], "test": pages[2:]}}, note


SOURCES = (
    Source("cais/mmlu", "mmlu-dev-val.tar.xz", _mmlu),
    Source("nyu-mll/blimp", "blimp.tar.xz", _blimp),
    Source("jannalu/crows_pairs_multilingual", "crows_pairs.csv.xz", _crows_pairs),
    Source("allenai/ai2_arc", "arc_easy.jsonl.xz", _arc_easy),
    Source("EleutherAI/wikitext_document_level", "english-novels.tar.xz", _prose),
)
