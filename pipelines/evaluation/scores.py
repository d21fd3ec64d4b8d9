"""Scores with their confidence intervals, as `scores.json` holds them."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.artifacts.work import atomic_file


@dataclass(frozen=True)
class Score:
    """One figure of one task over `n` items; `low` and `high` are its 95% interval."""

    task: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    higher_is_better: bool

    def __post_init__(self) -> None:
        if not all(math.isfinite(number) for number in (self.value, self.low, self.high)):
            raise ValueError(f"{self.task} {self.metric}: {self.value} [{self.low}, {self.high}] is not finite")

    @property
    def name(self) -> str:
        """The score's name among a stage's metrics."""
        return f"{self.task}.{self.metric}"


def write_scores(path: Path, out: Path, scores: Iterable[Score], **more: object) -> None:
    """Write the scores as one JSON object at `path` in the artifact `out`; `more` are further JSON fields."""
    with atomic_file(path, out) as fresh:
        content = {"scores": [asdict(score) for score in scores], **more}
        fresh.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_scores(path: Path) -> list[Score]:
    """Return the scores of a `scores.json`."""
    return [Score(**row) for row in json.loads(path.read_text(encoding="utf-8"))["scores"]]
