"""Multiple-choice questions about documented objects, in MMLU's form.

Four objects of similar summary length share their four summaries as choices, and each is asked about once: every
choice is right once and wrong three times, and every position is right once, so nothing but the question helps.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from pipelines.corpus.documented.objects import DocObject
from pipelines.corpus.documented.pairs import similar
from pipelines.tokens.ranks import rank

CHOICES = 4


def questions(objects: Sequence[DocObject], seed: int, limit: int) -> list[dict[str, Any]]:
    """Return at most `limit` questions, in whole groups of four, in a seeded order."""
    groups = sorted(_groups(objects), key=lambda group: rank(seed, "group", *(found.id for found in group)))
    asked = [row for group in groups[: limit // CHOICES] for row in _ask(group, seed)]
    return sorted(asked, key=lambda row: rank(seed, "question", row["id"]))


def few_shot(asked: Sequence[dict[str, Any]], per_subject: int) -> list[dict[str, Any]]:
    """Return the first `per_subject` questions of each subject, for worked examples."""
    taken: dict[str, int] = defaultdict(int)
    kept = []
    for row in asked:
        taken[row["subject"]] += 1
        if taken[row["subject"]] <= per_subject:
            kept.append(row)
    return kept


def _groups(objects: Sequence[DocObject]) -> list[list[DocObject]]:
    """Return groups of four from one package where it has four of similar length, else from all packages."""
    packages: dict[str, list[DocObject]] = defaultdict(list)
    for found in objects:
        packages[found.package].append(found)
    groups: list[list[DocObject]] = []
    left: list[DocObject] = []
    for package in sorted(packages):
        whole, single = _by_length(packages[package])
        groups += whole
        left += single
    return groups + _by_length(left)[0]


def _by_length(objects: Sequence[DocObject]) -> tuple[list[list[DocObject]], list[DocObject]]:
    ordered = sorted(objects, key=lambda found: len(found.summary))
    groups: list[list[DocObject]] = []
    left: list[DocObject] = []
    index = 0
    while index < len(ordered):
        group = ordered[index : index + CHOICES]
        if len(group) == CHOICES and similar(group[0].summary, group[-1].summary):
            groups.append(group)
            index += CHOICES
        else:
            left.append(ordered[index])
            index += 1
    return groups, left


def _ask(group: list[DocObject], seed: int) -> list[dict[str, Any]]:
    answers = sorted(range(CHOICES), key=lambda position: rank(seed, "answer", group[0].id, str(position)))
    rows = []
    for found, answer in zip(group, answers, strict=True):
        others = [other.summary for other in group if other is not found]
        others.sort(key=lambda text: rank(seed, "choice", found.id, text))
        rows.append(
            {
                "id": found.id,
                "question": f"Which of these describes the {found.kind} {found.name}?",
                "choices": [*others[:answer], found.summary, *others[answer:]],
                "answer": answer,
                "subject": found.package,
            }
        )
    return rows
