"""Looking up one score among those that a stage wrote."""

from collections.abc import Iterable

from pipelines.evaluation.scores import Score


def find_score(scores: Iterable[Score], task: str, metric: str) -> Score:
    """Return the score of this task and metric; raise KeyError where there is none."""
    for score in scores:
        if (score.task, score.metric) == (task, metric):
            return score
    raise KeyError(f"no score {task}.{metric}")
