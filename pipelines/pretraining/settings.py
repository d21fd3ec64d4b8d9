"""The settings that every training loop of ours shares."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipelines.artifacts.stage import StageConfig

Fraction = Annotated[float, Field(ge=0, le=1)]


class LoopConfig(StageConfig):
    """How a model is trained: batch, length of the run, optimizer, schedule, arithmetic, and what it runs on.

    `micro_batch` and `threads` change the order in which floats are added, hence the last bits of the result, and
    nothing that was asked for; they are runtime.
    """

    runtime: ClassVar[frozenset[str]] = frozenset(
        {"micro_batch", "device", "threads", "log_interval", "checkpoint_every", "keep_checkpoints"}
    )

    sequence_length: int = Field(256, ge=8, le=1 << 17, description="Tokens the model sees at once.")
    global_batch: int = Field(16, ge=1, le=1 << 20, description="Sequences in one optimizer step.")
    max_steps: int = Field(300, ge=1, le=10**8, description="Optimizer steps of the whole run.")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="AdamW for all weights, or Muon for the blocks' matrices and AdamW for the others."
    )
    lr: float = Field(2e-3, gt=0, le=1, description="Highest learning rate.")
    min_lr_ratio: Fraction = Field(0.0, description="Where the decay ends, as a share of the highest learning rate.")
    warmup_steps: int = Field(20, ge=0, le=10**7, description="Steps over which the learning rate rises from zero.")
    schedule: Literal["wsd", "cosine"] = Field("wsd", description="Warmup-stable-decay, or warmup and a cosine.")
    decay_fraction: Fraction = Field(0.3, description="Share of the steps over which wsd decays, at the end.")
    weight_decay: float = Field(0.1, ge=0, le=10, description="Decoupled weight decay of the matrices.")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's decay of the mean gradient.")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW's decay of the mean squared gradient.")
    clip: float = Field(1.0, gt=0, description="Longest gradient; a longer one is scaled down to it.")
    dtype: Literal["fp32", "bf16"] = Field(
        "fp32", description="Arithmetic of matrix products; weights stay fp32. bf16 pays where the machine has it."
    )
    attention: Literal["sdpa", "blockwise"] = Field(
        "sdpa", description="torch's fused kernel, or plain products in blocks, which are faster on a CPU."
    )
    compile: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Compile the model's blocks: a minute or two once, faster steps after; auto: long runs only.",
    )
    seed: int = Field(0, ge=0, lt=1 << 32, description="Draws the first weights and the order of the samples.")
    heldout_every: int = Field(50, ge=1, description="Steps between two measurements on held-out text.")
    heldout_sequences: int = Field(64, ge=1, description="Held-out sequences measured, evenly spread over the split.")
    max_skips: int = Field(5, ge=1, description="Steps without a finite gradient, one after another, that end the run.")

    micro_batch: int = Field(8, ge=1, description="Sequences computed at once; the rest of a step is accumulated.")
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the model is trained.")
    threads: int | None = Field(None, ge=1, description="Threads of torch; none leaves its own choice.")
    log_interval: int = Field(10, ge=1, description="Steps between two lines of the log of rates.")
    checkpoint_every: int = Field(50, ge=1, description="Steps between two checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, le=100, description="Newest checkpoints kept while the run lasts.")

    @property
    def decay_steps(self) -> int:
        """Steps of the decay at the end of a wsd schedule."""
        return round(self.decay_fraction * self.max_steps)
