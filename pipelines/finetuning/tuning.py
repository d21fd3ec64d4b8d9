"""The settings that every kind of fine-tuning shares."""

import logging
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import StageConfig


class TuningConfig(StageConfig):
    """How long, how fast and how much at a time a model is tuned."""

    model_config = ConfigDict(title="Tuning")
    runtime: ClassVar[frozenset[str]] = frozenset({"micro_batch", "device", "checkpoint_every"})

    max_steps: int = Field(200, ge=1, le=10_000_000, description="Optimizer steps of the whole run.")
    global_batch: int = Field(32, ge=1, le=65_536, description="Examples in one optimizer step.")
    lr: float = Field(5e-4, gt=0, le=1, description="Highest learning rate.")
    warmup_steps: int = Field(10, ge=0, le=10_000_000, description="Steps over which the learning rate rises from 0.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "cosine", description="How the learning rate falls after the warm-up."
    )
    weight_decay: float = Field(0.0, ge=0, le=1, description="Decoupled weight decay of AdamW.")
    clip: float = Field(1.0, gt=0, le=1000, description="Longest gradient; a longer one is scaled down to it.")
    max_length: int | None = Field(
        None, ge=8, le=1_048_576, description="Longest example in tokens; none takes the model's own length."
    )
    dtype: Literal["fp32", "bf16"] = Field(
        "fp32", description="Arithmetic of matrix products; weights stay fp32. bf16 pays where the machine has it."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Decides the order of the examples and every random draw.")

    micro_batch: int = Field(16, ge=1, le=65_536, description="Examples computed at once; the rest is accumulated.")
    checkpoint_every: int = Field(100, ge=1, description="Steps between two checkpoints.")
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the model is trained.")


def silence_imports() -> None:
    """Keep the libraries that an engine is about to import from reporting on parts of theirs that nobody uses."""
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
