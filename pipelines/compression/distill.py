"""The stage `distill`: a smaller student from a teacher's logits."""

from pathlib import Path

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import Metrics, Stage
from pipelines.models.sizes import SizeName
from pipelines.pretraining.settings import Fraction, LoopConfig


class DistillConfig(LoopConfig):
    """Which student is trained, on what mix, and what it takes from the teacher."""

    model_config = ConfigDict(title="Distillation")

    size: SizeName = Field("mini", description="Row of the table of model sizes that the student is.")
    temperature: float = Field(2.0, gt=0, le=100, description="Softens both distributions before they are compared.")
    ce_share: Fraction = Field(0.3, description="Share of the loss that is the text's own next token; the rest is KL.")
    instruction_share: Fraction = Field(0.5, description="Share of the sequences that are chats; the rest is text.")


def distill(config: DistillConfig, *, teacher: Path, train: Path, instructions: Path, out: Path) -> Metrics:
    """Write a student of `teacher` that shares its tokenizer, template and length, and its curve."""
    from pipelines.compression.distillation import train_student

    return train_student(config, teacher, train, instructions, out)


DISTILL = Stage(
    "distill", version=2, run=distill, libraries=("numpy", "tokenizers", "torch", "transformers"), resumable=True
)
