"""The files of the `examples` stage, written from documentation or from a user's own rows."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson

from pipelines.artifacts.errors import EmptyOutput
from pipelines.artifacts.progress import track
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import atomic_file
from pipelines.corpus.documented.clusters import clusters, normalised, split_of
from pipelines.corpus.documented.harvest import SplitObject, harvest, split_objects, write_objects
from pipelines.corpus.documented.objects import DocObject, Usable
from pipelines.corpus.documented.own_rows import Check, Row, instruction, multiple_choice, preference, read_rows
from pipelines.corpus.documented.packages import package_files
from pipelines.corpus.documented.pairs import instructions, one_a_cluster, preferences
from pipelines.corpus.documented.questions import few_shot, questions
from pipelines.corpus.examples import DocsSource, ExamplesConfig, JsonlSource
from pipelines.tokens.ranks import rank

SPLITS = {
    "instructions": ("train", "heldout"),
    "preferences": ("train", "heldout"),
    "questions": ("dev", "test"),
}

Tagged = Iterable[tuple[str, dict[str, Any]]]
"""Rows, each with the split that it belongs to."""


def from_docs(config: ExamplesConfig, source: DocsSource, out: Path) -> Metrics:
    """Write objects, pairs and questions of installed packages' documentation; return what became of each object."""
    counts: Counter[str] = Counter({"in": 0, "kept": 0})
    seed, few = config.seed, source.heldout_pairs
    usable = Usable(source.min_summary_words, source.max_summary_chars)
    objects = harvest(package_files(source.packages), usable, source.max_objects_per_package, seed, counts)
    counts["kept"] = len(objects)
    fractions = {"test": source.test_fraction, "heldout": config.heldout_fraction}
    split = split_objects(objects, threshold=config.near_equal, seed=seed, fractions=fractions, counts=counts)
    counts.update(f"objects.{item.split}" for item in split)
    write_objects(out / "objects" / "objects.parquet", out, split)
    train, heldout, test = (_one_a_cluster(split, name, seed) for name in ("train", "heldout", "test"))
    asked = instructions(train, seed, source.instructions), instructions(heldout, seed, few)
    write_rows(out, "instructions", _tagged("instructions", *asked), counts)
    judged = preferences(train, seed, source.preferences), preferences(heldout, seed, few)
    write_rows(out, "preferences", _tagged("preferences", *judged), counts)
    # Worked examples, too, are of objects that no page of the corpus holds.
    dev = few_shot(questions(heldout, seed, len(heldout)), config.dev_per_subject)
    write_rows(out, "questions", _tagged("questions", dev, questions(test, seed, source.questions)), counts)
    return finished(config, counts)


def from_jsonl(config: ExamplesConfig, source: JsonlSource, out: Path) -> Metrics:
    """Write a user's pairs and questions, checked and split; return what became of each row.

    Pairs are read twice, first for the clusters of their answers, then to be written, so that they need not fit in
    memory. An instruction and a preference with near-equal answers fall in the same split.
    """
    counts: Counter[str] = Counter({"in": 0, "kept": 0})
    checks: dict[str, Check] = {"instructions": instruction, "preferences": preference}
    answers = [normalised(row.answer) for name, check in checks.items() for row in _own(source, name, check, counts)]
    owners = iter(clusters(answers, config.near_equal))
    fractions = {"heldout": config.heldout_fraction}
    for name, check in checks.items():
        rows = zip(_own(source, name, check), owners, strict=False)  # the owners of the other kind come after
        write_rows(out, name, ((split_of(owner, config.seed, fractions), row.value) for row, owner in rows), counts)
    own = [row.value for row in _own(source, "questions", multiple_choice, counts)]
    own.sort(key=lambda row: rank(config.seed, "question", row["id"]))
    shown = {row["id"] for row in few_shot(own, config.dev_per_subject)}
    write_rows(out, "questions", (("dev" if row["id"] in shown else "test", row) for row in own), counts)
    return finished(config, counts)


def _own(source: JsonlSource, name: str, check: Check, counts: Counter[str] | None = None) -> Iterator[Row]:
    paths = source.files(name).values()
    counted = Counter[str]() if counts is None else counts
    rows = read_rows(paths, check, max_rows=source.max_rows, max_chars=source.max_turn_chars, counts=counted)
    return track(rows, "examples", unit=name)


def _one_a_cluster(objects: Iterable[SplitObject], split: str, seed: int) -> list[DocObject]:
    inside = [item for item in objects if item.split == split]
    return one_a_cluster([item.found for item in inside], [item.cluster for item in inside], seed)


def _tagged(kind: str, *lists: list[dict[str, Any]]) -> Tagged:
    return ((split, row) for split, rows in zip(SPLITS[kind], lists, strict=True) for row in rows)


def write_rows(out: Path, kind: str, rows: Tagged, counts: Counter[str]) -> None:
    """Write the rows as JSON lines, a file a split, and count them by split and kind."""
    with ExitStack() as files:
        opened = {
            split: files.enter_context(files.enter_context(atomic_file(out / kind / f"{split}.jsonl", out)).open("wb"))
            for split in SPLITS[kind]
        }
        for split, row in rows:
            opened[split].write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            counts[f"{kind}.{split}"] += 1
            if "kind" in row:
                counts[f"{kind}.{split}.{row['kind']}"] += 1


def finished(config: ExamplesConfig, counts: Counter[str]) -> Metrics:
    """Return the counts as metrics; raise EmptyOutput where a stage that reads these files would get nothing."""
    wanted = [f"{kind}.{split}" for kind, splits in SPLITS.items() for split in splits]
    if config.dev_per_subject == 0:
        wanted.remove("questions.dev")
    missing = {name: 0 for name in wanted if not counts[name]}
    if missing:
        funnel = {
            name: count for name, count in sorted(counts.items()) if name.split(".")[0] in ("in", "kept", "dropped")
        }
        raise EmptyOutput("examples", funnel | missing)
    return {name: float(count) for name, count in sorted(counts.items())}
