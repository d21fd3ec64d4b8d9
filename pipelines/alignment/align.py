"""The stage `align`: a tuned model learns to prefer the better of two answers."""

from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.stage import Metrics, Stage, StageConfig
from pipelines.finetuning.tuning import TuningConfig, silence_imports


class DPOConfig(StageConfig):
    """Direct preference optimisation (Rafailov et al., 2023)."""

    model_config = ConfigDict(title="DPO")

    beta: float = Field(0.1, gt=0, le=100, description="How strongly the model is held to the one it started from.")
    sft_weight: float = Field(
        0.2, ge=0, le=100, description="Weight of the likelihood of the chosen answers, which keeps them from fading."
    )


class GRPOConfig(StageConfig):
    """Group relative policy optimisation against the reward model (Shao et al., 2024)."""

    model_config = ConfigDict(title="GRPO")

    beta: float = Field(0.04, ge=0, le=100, description="Weight of the divergence from the model it started from.")
    group: int = Field(8, ge=2, le=1024, description="Answers drawn for each prompt.")
    max_new_tokens: int = Field(48, ge=1, le=65_536, description="Longest answer that is drawn.")
    temperature: float = Field(1.0, gt=0, le=10, description="Temperature of the draws.")


class AlignConfig(TuningConfig):
    """Preference optimisation."""

    model_config = ConfigDict(title="Alignment")

    method: Literal["dpo", "grpo"] = Field("dpo", description="Learn from the pairs, or from the reward model.")
    lr: float = Field(5e-5, gt=0, le=1, description="Highest learning rate.")
    dpo: DPOConfig = Field(DPOConfig(), description="Used by the method dpo.")
    grpo: GRPOConfig = Field(GRPOConfig(), description="Used by the method grpo.")
    heldout: int = Field(
        64, ge=2, description="Held-out prompts that grpo answers before and after; dpo is measured on all pairs."
    )

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if self.method == "grpo" and self.global_batch % self.grpo.group:
            raise ValueError(f"global_batch {self.global_batch} is no multiple of grpo.group {self.grpo.group}")
        return self


def align(config: AlignConfig, *, model: Path, preferences: Path, reward: Path | None = None, out: Path) -> Metrics:
    """Align `model` with the preferences and measure it on the held-out ones."""
    silence_imports()
    if config.method == "grpo":
        if reward is None:
            raise UserError("align.method: 'grpo' needs a reward model; give the input reward, or say dpo")
        from pipelines.alignment.policy import optimise_reward

        return optimise_reward(config, model, preferences, reward, out)
    from pipelines.alignment.direct import optimise_preferences

    return optimise_preferences(config, model, preferences, out)


ALIGN = Stage(
    "align", version=1, run=align, libraries=("trl", "transformers", "torch", "numpy", "tokenizers"), resumable=True
)
