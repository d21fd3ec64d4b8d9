"""The docs benchmark in MMLU's form."""

import json
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from pipelines.artifacts.errors import UserError
from pipelines.evaluation.questions import questions_task, read_questions
from pipelines.evaluation.surroundings import quiet
from tests.evaluation.workbench import Workbench


def test_a_question_is_worded_as_mmlu_words_it(workbench: Workbench) -> None:
    with quiet():
        loaded = TaskManager(include_defaults=False).load([questions_task(workbench.questions, 3, 1)])
        task = loaded["tasks"]["docs_questions"]
        task.build_all_requests()
    context, answer = task.instances[3].args
    assert context == (
        "The following are multiple choice questions (with answers) about software.\n\n"
        "Which of these describes the function f0?\n"
        "A. Return 0.\nB. Return 1.\nC. Return 2.\nD. Return 3.\nAnswer: A\n\n"
        "Which of these describes the function f0?\n"
        "A. Return 0.\nB. Return 1.\nC. Return 2.\nD. Return 3.\nAnswer:"
    )
    assert answer == " D"
    assert len(task.instances) == 3 * 4


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "has no question, choices and answer"),
        ({"question": "q", "choices": ["a", "b"]}, "has no question, choices and answer"),
        ({"question": " ", "choices": ["a", "b"], "answer": 0}, "needs a question"),
        ({"question": "q", "choices": [], "answer": 0}, "2 to 10 choices"),
        ({"question": "q", "choices": ["a", 1], "answer": 0}, "all of them text"),
        ({"question": "q", "choices": ["a", "b"], "answer": True}, "answer True"),
        ({"question": "q", "choices": ["a", "b"], "answer": -1}, "answer -1"),
    ],
)
def test_a_row_that_is_no_question_is_named(tmp_path: Path, row: Any, message: str) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text(row if isinstance(row, str) else json.dumps(row))
    with pytest.raises(UserError, match=message):
        read_questions(path)


def test_more_solved_examples_than_there_are_is_refused(workbench: Workbench) -> None:
    with pytest.raises(UserError, match=r"set few_shot=5"):
        questions_task(workbench.questions, 3, 6)
