"""The settings that every training loop of ours shares."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import StageConfig
from pipelines.pretraining.optimizer_settings import (
    OptimizerName,
    ScheduleName,
    SophiaConfig,
    SwaConfig,
    WeightKind,
    WeightRatesConfig,
)

Fraction = Annotated[float, Field(ge=0, le=1)]


class SpikeConfig(StageConfig):
    """When a step's loss or gradient stands out, and what is done then."""

    model_config = ConfigDict(title="Spikes")

    on_spike: Literal["keep", "skip", "rewind"] = Field(
        "skip",
        description="Take the step all the same; leave it out; or go back, and jump over the samples read since.",
    )
    sigmas: float = Field(6.0, gt=0, le=1000, description="Standard deviations above the mean that make a spike.")
    window: int = Field(
        128, ge=8, le=10_000, description="Finite steps that mean and deviation are of; none is judged before them."
    )
    rewind_every: int = Field(
        100, ge=1, le=10**7, description="Steps between two states to go back to, kept where rewinding is asked for."
    )
    max_rewinds: int = Field(3, ge=1, le=1000, description="Rewinds after which the next spike ends the run.")


class PatienceConfig(StageConfig):
    """When a run whose held-out loss no longer falls ends before its last step."""

    model_config = ConfigDict(title="Early stopping")

    measurements: int | None = Field(
        None, ge=1, description="Held-out measurements without a lower loss that end the run; none never ends it."
    )
    min_delta: float = Field(0.0, ge=0, le=100, description="Nats that the loss must fall by to count as lower.")


class LoopConfig(StageConfig):
    """How a model is trained: batch, length of the run, optimizer, schedule, arithmetic, and what it runs on.

    `micro_batch` and `threads` change the order in which floats are added, hence the last bits of the result, and
    nothing that was asked for; they are runtime.
    """

    runtime: ClassVar[frozenset[str]] = frozenset(
        {
            "micro_batch",
            "activation_checkpointing",
            "device",
            "threads",
            "log_interval",
            "trackers",
            "measure_peak",
            "checkpoint_every",
            "keep_checkpoints",
        }
    )

    sequence_length: int = Field(256, ge=8, le=1 << 17, description="Tokens the model sees at once.")
    global_batch: int = Field(16, ge=1, le=1 << 20, description="Sequences in one optimizer step.")
    max_steps: int = Field(300, ge=1, le=10**8, description="Optimizer steps of the whole run.")
    optimizer: OptimizerName = Field(
        "adamw", description="One optimizer for all weights; muon takes the blocks' matrices and AdamW the others."
    )
    lr: float = Field(2e-3, gt=0, le=1, description="Highest learning rate.")
    min_lr_ratio: Fraction = Field(0.0, description="Where the decay ends, as a share of the highest learning rate.")
    warmup_steps: int = Field(20, ge=0, le=10**7, description="Steps over which the learning rate rises from zero.")
    rates: WeightRatesConfig = Field(WeightRatesConfig(), description="Highest learning rates by kind of weight.")
    schedule: ScheduleName = Field("wsd", description="How the learning rate goes on after its warmup.")
    decay_fraction: Fraction = Field(0.3, description="Share of the steps over which wsd decays, at the end.")
    decay_power: float = Field(2.0, gt=0, le=10, description="Exponent of the polynomial schedule.")
    weight_decay: float = Field(0.1, ge=0, le=10, description="Decoupled weight decay.")
    decayed: tuple[WeightKind, ...] = Field(
        ("matrices", "embedding", "unembedding"), description="Kinds of weights that are decayed."
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the mean gradient, but for Muon and Adafactor.")
    beta2: float = Field(
        0.95, ge=0, lt=1, description="AdamW's decay of the mean squared gradient, Sophia's of the curvature, Lion's."
    )
    epsilon: float = Field(1e-8, gt=0, le=1, description="Added to the size that AdamW divides a gradient by.")
    sophia: SophiaConfig = Field(SophiaConfig(), description="What Sophia alone has.")
    clip: float = Field(1.0, gt=0, description="Longest gradient; a longer one is scaled down to it.")
    dtype: Literal["fp32", "bf16", "fp16", "fp8"] = Field(
        "fp32", description="Arithmetic of matrix products; weights stay fp32. bf16 pays where the machine has it."
    )
    attention: Literal["sdpa", "blockwise"] = Field(
        "sdpa", description="torch's fused kernel, or plain products in blocks, which are faster on a CPU."
    )
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="Share of attention weights left out in training.")
    compile: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Compile the model's blocks: a minute or two once, faster steps after; auto: long runs only.",
    )
    seed: int = Field(0, ge=0, lt=1 << 32, description="Draws the first weights and the order of the samples.")
    heldout_every: int = Field(50, ge=1, description="Steps between two measurements on held-out text.")
    heldout_sequences: int = Field(64, ge=1, description="Held-out sequences measured, evenly spread over the split.")
    publish: Literal["last", "best", "average", "swa"] = Field(
        "last", description="Weights of the last step, of the lowest held-out loss, or their running or equal average."
    )
    ema_decay: float = Field(0.999, gt=0, lt=1, description="Decay of the running average, kept where it is published.")
    swa: SwaConfig = Field(SwaConfig(), description="Which weights enter the equal average.")
    patience: PatienceConfig = Field(PatienceConfig(), description="Stopping early, by the held-out loss.")
    max_skips: int = Field(5, ge=1, description="Skipped steps, one after another, that end the run.")
    spikes: SpikeConfig = Field(SpikeConfig(), description="Steps whose loss or gradient stands out.")

    micro_batch: int = Field(8, ge=1, description="Sequences computed at once; the rest of a step is accumulated.")
    activation_checkpointing: bool = Field(
        False, description="Compute a block's activations again in the backward pass: a third more work, less memory."
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the model is trained.")
    threads: int | None = Field(None, ge=1, description="Threads of torch; none leaves its own choice.")
    log_interval: int = Field(10, ge=1, description="Steps between two lines of the log.")
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = Field(
        ("tensorboard",), description="Where the log goes beside its own file; all of them stay on this machine."
    )
    measure_peak: bool | None = Field(
        None, description="Measure the machine's peak for MFU; none does where the run is long enough to pay for it."
    )
    checkpoint_every: int = Field(50, ge=1, description="Steps between two checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, le=100, description="Newest checkpoints kept while the run lasts.")

    @property
    def decay_steps(self) -> int:
        """Steps of the decay at the end of a wsd schedule."""
        return round(self.decay_fraction * self.max_steps)
