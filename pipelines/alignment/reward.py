"""The stage `reward`: a model that scores answers, learned from pairs of a chosen and a rejected one."""

from pathlib import Path

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import Metrics, Stage
from pipelines.finetuning.tuning import TuningConfig, silence_imports


class RewardConfig(TuningConfig):
    """The Bradley-Terry reward model."""

    model_config = ConfigDict(title="Reward model")

    lr: float = Field(3e-4, gt=0, le=1, description="Highest learning rate.")
    centre: float = Field(
        0.01,
        ge=0,
        le=10,
        description="Weight of the term that draws the two rewards' sum to 0 (Eisenstein et al., 2023).",
    )
    always: bool = Field(False, description="Build the reward model even where align needs none.")


def reward(config: RewardConfig, *, model: Path, preferences: Path, out: Path) -> Metrics:
    """Train a reward model from `model` and score it on the held-out pairs."""
    silence_imports()
    from pipelines.alignment.judge import train_judge

    return train_judge(config, model, preferences, out)


REWARD = Stage(
    "reward", version=1, run=reward, libraries=("trl", "transformers", "torch", "numpy", "tokenizers"), resumable=True
)
