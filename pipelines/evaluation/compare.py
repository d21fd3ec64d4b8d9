"""The stage `compare`: two models' answers to the same items, paired item by item."""

from pathlib import Path

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import Metrics, Stage, StageConfig


class CompareConfig(StageConfig):
    """How sure a difference must be."""

    model_config = ConfigDict(title="Comparison")
    confidence: float = Field(
        0.95,
        ge=0.5,
        le=0.9999,
        description="Confidence of the intervals of all scores together: each is as much wider as there are scores",
    )
    resamples: int = Field(10_000, ge=1_000, le=1_000_000, description="Bootstrap resamples behind each interval")
    seed: int = Field(20_260, ge=0, lt=2**32, description="Seed of the bootstrap")


def compare(config: CompareConfig, *, champion: Path, challenger: Path, out: Path) -> Metrics:
    """Write, for each score of both models, the challenger's gain with its paired interval.

    A task whose items the two did not share, one and all, is not compared: it is named with what differs.
    """
    from pipelines.evaluation.pairing import write_comparison

    return write_comparison(config, champion, challenger, out)


COMPARE = Stage("compare", version=1, run=compare, libraries=("numpy", "pyarrow"))
