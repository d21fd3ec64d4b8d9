"""The settings of optimizers, schedules and kinds of weights, without torch."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import StageConfig

OptimizerName = Literal["adamw", "muon", "lion", "adafactor", "adamw8bit", "sophia"]
ScheduleName = Literal["wsd", "cosine", "linear", "inverse_sqrt", "polynomial", "one_cycle"]
WeightKind = Literal["matrices", "embedding", "unembedding", "vectors"]
Rate = Annotated[float | None, Field(gt=0, le=10)]


class WeightRatesConfig(StageConfig):
    """Highest learning rates of kinds of weights; none takes the run's `lr`. All follow one schedule."""

    model_config = ConfigDict(title="Learning rates by kind of weight")

    matrices: Rate = Field(None, description="The blocks' matrices.")
    embedding: Rate = Field(None, description="The input vectors of the vocabulary, and the output's where tied.")
    unembedding: Rate = Field(None, description="The output vectors of the vocabulary, where they are untied.")
    vectors: Rate = Field(None, description="The gains of the norms, biases, and T5's numbers of distances.")

    def of(self, kind: WeightKind, lr: float) -> float:
        """Return the highest learning rate of a kind of weights."""
        own: float | None = getattr(self, kind)
        return lr if own is None else own


class SophiaConfig(StageConfig):
    """How Sophia estimates the curvature, and how far it trusts it."""

    model_config = ConfigDict(title="Sophia")

    every: int = Field(10, ge=1, le=10_000, description="Steps between two estimates of the curvature.")
    gamma: float = Field(
        0.05, gt=0, le=1e6, description="Share of the curvature that a gradient is divided by; higher clips less."
    )


class SwaConfig(StageConfig):
    """Which weights enter the equal average that `publish: swa` publishes."""

    model_config = ConfigDict(title="Stochastic weight averaging")

    start: float = Field(0.75, ge=0, lt=1, description="Share of the steps after which the first weights enter.")
    every: int = Field(1, ge=1, le=10**7, description="Steps between two weights that enter.")
