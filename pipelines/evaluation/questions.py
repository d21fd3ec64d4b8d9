"""The docs benchmark: multiple-choice questions in MMLU's form, asked through lm-eval."""

import json
from pathlib import Path
from typing import Any

from pipelines.artifacts.errors import UserError
from pipelines.evaluation.harness import TaskRun
from pipelines.evaluation.intervals import wilson
from pipelines.evaluation.items import Item, items_of
from pipelines.evaluation.scores import Score

TASK = "docs_questions"
LETTERS = "ABCDEFGHIJ"


def read_questions(path: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """Return rows of `question`, `choices` and `answer` (a place among the choices); raise UserError on any other."""
    rows: list[dict[str, Any]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"questions: {path} cannot be read ({error}); build examples again") from error
    for number, line in enumerate(lines if limit is None else lines[:limit], 1):
        rows.append(_checked(line, f"{path.name} line {number}"))
    if any(len(row["choices"]) != len(rows[0]["choices"]) for row in rows):
        raise UserError(f"questions: {path.name} mixes numbers of choices; give each question as many")
    return rows


def _checked(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        question, choices, answer = row["question"], row["choices"], row["answer"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"questions: {where} has no question, choices and answer ({error!r}); mend it") from error
    whole = isinstance(question, str) and isinstance(choices, list) and all(isinstance(c, str) for c in choices)
    if not whole or not question.strip() or not 2 <= len(choices) <= len(LETTERS):
        raise UserError(f"questions: {where} needs a question and 2 to {len(LETTERS)} choices, all of them text")
    if type(answer) is not int or not 0 <= answer < len(choices):
        raise UserError(f"questions: {where} has answer {answer!r}; give a place among its {len(choices)} choices")
    return {"question": question.strip(), "choices": choices, "answer": answer}


def questions_task(folder: Path, limit: int, few_shot: int) -> dict[str, Any]:
    """Return `dev.jsonl` and `test.jsonl` of `folder` as a task of lm-eval, worded as MMLU is."""
    import datasets

    test, dev = read_questions(folder / "test.jsonl", limit), read_questions(folder / "dev.jsonl")
    if not test:
        raise UserError(f"questions: {folder / 'test.jsonl'} is empty; build examples again or set questions=0")
    if len(dev) < few_shot:
        raise UserError(
            f"few_shot: {few_shot} is more than the {len(dev)} questions of dev.jsonl; set few_shot={len(dev)}"
        )
    splits = {"test": datasets.Dataset.from_list(test)}
    if dev:
        splits["dev"] = datasets.Dataset.from_list(dev)
    letters = list(LETTERS[: len(test[0]["choices"])])
    options = "\n".join(f"{letter}. {{{{choices[{place}]}}}}" for place, letter in enumerate(letters))
    return {
        "task": TASK,
        "custom_dataset": lambda **_: splits,
        "test_split": "test",
        "fewshot_split": "dev" if dev else "test",
        "fewshot_config": {"sampler": "first_n"},
        "num_fewshot": few_shot,
        "output_type": "multiple_choice",
        "description": "The following are multiple choice questions (with answers) about software.\n\n",
        "doc_to_text": f"{{{{question}}}}\n{options}\nAnswer:",
        "doc_to_choice": letters,
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }


def questions_scores(run: TaskRun) -> list[Score]:
    """Return the share of right answers with Wilson's interval."""
    right = sum(row["acc"] for row in run.rows)
    value, low, high = wilson(right, len(run.rows))
    return [Score(TASK, "acc", value, low, high, len(run.rows), True)]


def questions_items(run: TaskRun) -> list[Item]:
    """Return whether each question was answered right."""
    return items_of(
        f"{TASK}.acc", [row["doc"] for row in run.rows], [row["acc"] for row in run.rows], higher_is_better=True
    )
