"""The stage `sft`: a base model learns to answer from instruction pairs."""

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import Metrics, Stage, StageConfig
from pipelines.finetuning.tuning import TuningConfig, silence_imports


class LoraConfig(StageConfig):
    """Low-rank updates beside frozen weights (Hu et al., 2021)."""

    model_config = ConfigDict(title="LoRA")

    rank: int = Field(16, ge=1, le=1024, description="Rank of an update.")
    alpha: int = Field(32, ge=1, le=8192, description="An update counts alpha over rank times.")
    targets: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="Names of the matrices that are updated.",
    )


class SFTConfig(TuningConfig):
    """Supervised fine-tuning on the assistant's words."""

    model_config = ConfigDict(title="Supervised fine-tuning")

    method: Literal["full", "lora"] = Field("full", description="All weights, or low-rank updates that are merged.")
    lora: LoraConfig = Field(LoraConfig(), description="Used by the method lora.")
    heldout: int = Field(256, ge=0, description="Held-out conversations whose loss is taken; 0 takes none.")
    heldout_every: int = Field(100, ge=1, description="Steps between two held-out losses; one is taken at the end.")


def sft(config: SFTConfig, *, model: Path, template: Path, instructions: Path, out: Path) -> Metrics:
    """Train `model` on the conversations of `instructions`, with loss where the assistant speaks."""
    silence_imports()
    from pipelines.finetuning.conversations import finetune

    return finetune(config, model, template, instructions, out)


SFT = Stage(
    "sft", version=1, run=sft, libraries=("trl", "transformers", "torch", "numpy", "tokenizers", "peft"), resumable=True
)
