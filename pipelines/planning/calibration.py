"""What short steps of a run's own shape took on a machine, kept in the store so that they are measured once."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.artifacts.canonical import digest_of
from pipelines.planning.counts import is_compiled, parts_of_a_step, rows_at_once
from pipelines.planning.energy import Source
from pipelines.pretraining.pretrain import PretrainConfig

FOLDER = ".calibrations"
FORM = 1
"""Raised when a calibration holds something else; older ones are measured again."""
FREE = {
    *("max_steps", "global_batch", "checkpoint_every", "heldout_every", "log_interval"),
    *("lr", "min_lr_ratio", "warmup_steps", "rates", "schedule", "decay_fraction", "decay_power"),
    *("weight_decay", "decayed", "beta1", "beta2", "epsilon", "clip", "seed", "ema_decay", "swa", "patience"),
    *("max_skips", "spikes", "init_from", "mixture", "load_balance", "keep_checkpoints", "measure_peak", "compile"),
}
"""Fields that change neither the time of a step nor its memory, and those that enter below or in the prediction."""


class Calibration(BaseModel):
    """What the parts of a run's time took, in seconds, and the most memory that it held."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    micro_batch_seconds: float
    """Forward and backward of one micro-batch."""
    update_seconds: float
    """What else a step takes: its batch, the clipping, the optimizer."""
    curvature_seconds: float
    """What a step takes more in which Sophia estimates the curvature."""
    line_seconds: float
    """What a step takes more that writes a line of the log."""
    heldout_seconds: float
    checkpoint_seconds: float
    """What a checkpoint keeps training from going on."""
    fixed_seconds: float
    """Before the first step and after the last."""
    spread: float
    """How far measured steps lay from their median, as a share of it: half of the distance between the quartiles."""
    memory_bytes: int
    peak_flops: float
    """Operations a second of the best square product."""
    watts: float | None
    """Measured; None where nothing measures it."""
    watts_source: Source
    threads: int
    depths: tuple[int, ...]
    """Blocks of the models that were measured; what the run's own takes follows from them where it is deeper."""
    measured_at: str

    @property
    def moment(self) -> datetime:
        """When it was measured."""
        return datetime.fromisoformat(self.measured_at)


def now() -> str:
    """Return the time as a calibration holds it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def shape_of(config: PretrainConfig, vocab_size: int) -> dict[str, Any]:
    """Return what decides the time of a run's parts and its memory."""
    fields = config.model_dump(mode="json")
    return {
        **{name: value for name, value in fields.items() if name not in FREE},
        "form": FORM,
        "vocabulary": vocab_size,
        "rows": rows_at_once(config),
        "accumulates": parts_of_a_step(config) > 1,
        "checkpoints": config.checkpoint_every < config.max_steps,
        "compiled": is_compiled(config, vocab_size),
    }


def place_of(store: Path, machine: str, shape: dict[str, Any]) -> Path:
    """Return the file of a calibration."""
    return store / FOLDER / machine / f"{digest_of(shape)[:24]}.json"


def read_calibration(path: Path) -> Calibration | None:
    """Return a kept calibration; None where there is none that can be read."""
    try:
        return Calibration.model_validate_json(path.read_text())
    except (OSError, ValidationError):
        return None
