"""Scores as a file."""

from pathlib import Path

import pytest

from pipelines.evaluation.scores import Score, read_scores, write_scores
from tests.scores import find_score

SCORE = Score("docs_questions", "acc", 0.25, 0.2, 0.31, 400, True)


def test_written_scores_read_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "scores/scores.json"
    write_scores(path, tmp_path, [SCORE], notes={"k": 0.001})
    assert read_scores(path) == [SCORE]
    assert find_score(read_scores(path), "docs_questions", "acc") == SCORE


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="docs_questions acc: nan"):
        Score("docs_questions", "acc", float("nan"), 0.0, 1.0, 1, True)
