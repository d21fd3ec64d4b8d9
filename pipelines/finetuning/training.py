"""TRL's trainers driven so that a killed run goes on by itself and ends in the bytes of an undisturbed one.

A checkpoint counts once `complete.json` lies in it, which is written after every other file of it is on disk. Every
step is logged, since a trainer forgets at a restart what it summed up since its last log.
"""

import math
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerState, TrainingArguments, set_seed

from pipelines.artifacts.curve import Row
from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.progress import Meter, meter
from pipelines.artifacts.work import Progress, atomic_file, commit_progress, fsync_dir, progress_dir
from pipelines.finetuning.tuning import TuningConfig
from pipelines.pretraining.kept_memory import kept_memory
from pipelines.pretraining.rng import ordered_sums

Arguments = TypeVar("Arguments", bound=TrainingArguments)

COMPLETE = "complete.json"
EVAL_ROWS = 16
"""Held-out examples measured at once. Not `micro_batch`: the mean over batches depends on how they are cut."""
SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
FOREIGN_WARNINGS = (r"`is_gradient_checkpointing` is deprecated", r"`gradient_checkpointing\w*` is deprecated")
CURVE = {"step": "step", "loss": "loss", "learning_rate": "lr", "grad_norm": "grad_norm", "num_tokens": "tokens"}


class Contained:
    """Comes before a TRL trainer: rows arrive tokenised, nothing is sent, and no card is written."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _send_telemetry(self) -> None: ...

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write nothing: cards are made from lineage."""


@contextmanager
def calm() -> Iterator[None]:
    """Leave out what the libraries warn each other of."""
    with warnings.catch_warnings():
        for message in FOREIGN_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield


def seeded(config: TuningConfig) -> None:
    """Let every draw from here on follow the config's seed; raise UserError for a GPU that is not there."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: 'cuda' is asked for and torch sees no GPU; say cpu")
    set_seed(config.seed)


def arguments(kind: type[Arguments], config: TuningConfig, out: Path, **more: Any) -> Arguments:
    """Return TRL's arguments of this kind for the config."""
    seeded(config)
    fitting = min(config.micro_batch, config.global_batch)
    micro = next(size for size in range(fitting, 0, -1) if config.global_batch % size == 0)
    settings = {
        "output_dir": str(_folder(out)),
        "max_steps": config.max_steps,
        "per_device_train_batch_size": micro,
        "per_device_eval_batch_size": EVAL_ROWS,
        "gradient_accumulation_steps": config.global_batch // micro,
        "learning_rate": config.lr,
        "lr_scheduler_type": SCHEDULES[config.schedule],
        "warmup_steps": config.warmup_steps,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.clip,
        "optim": "adamw_torch",
        "bf16": config.dtype == "bf16",
        "activation_checkpointing": False,
        "seed": config.seed,
        "train_sampling_strategy": "sequential",
        "use_cpu": config.device == "cpu",
        "dataloader_pin_memory": config.device == "cuda",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": config.checkpoint_every,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return kind(**{**settings, **more})


def fit(
    trainer: Any, config: TuningConfig, out: Path, what: str, extra: Mapping[str, str] | None = None
) -> tuple[Any, list[Row]]:
    """Train to the last step from the newest complete checkpoint, or the start; return the model and the curve.

    `extra` names further figures of the trainer's log and what the curve calls them.
    """
    newest, done = newest_checkpoint(out)
    for shown in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(shown)
    with meter(what, total=config.max_steps, unit="steps", done=done) as counter:
        trainer.add_callback(Keeper(trainer, out, counter))
        if newest is not None and done >= config.max_steps:
            trainer._load_from_checkpoint(str(newest))
            history = TrainerState.load_from_json(str(newest / "trainer_state.json")).log_history
        else:
            with ordered_sums(config.device), kept_memory(config.device):
                trainer.train(resume_from_checkpoint=newest and str(newest))
            history = trainer.state.log_history
    return trainer.model.eval(), _curve(history, {**CURVE, **(extra or {})})


def _curve(history: Iterable[Mapping[str, Any]], names: Mapping[str, str]) -> list[Row]:
    """Return a row a step from the trainer's log, without the figures that tell time."""
    rows: dict[int, Row] = {}
    for entry in history:
        if "loss" in entry:
            rows[entry["step"]] = {names[name]: entry[name] for name in names if name in entry}
        elif "eval_loss" in entry:
            rows.setdefault(entry["step"], {"step": entry["step"]})["heldout_loss"] = entry["eval_loss"]
    for row in rows.values():
        row["tokens"] = int(row.get("tokens", 0))
    return [rows[step] for step in sorted(rows)]


def newest_checkpoint(out: Path) -> tuple[Path | None, int]:
    """Return the newest complete checkpoint and its step; take away what a killed run left half done."""
    complete: dict[int, Path] = {}
    for folder in _folder(out).glob("checkpoint-*"):
        if (folder / COMPLETE).is_file():
            complete[int(folder.name.rpartition("-")[2])] = folder
        else:
            shutil.rmtree(folder)
    return (complete[max(complete)], max(complete)) if complete else (None, 0)


def _folder(out: Path) -> Path:
    return progress_dir(out) / "trainer"


class Keeper(TrainerCallback):
    """Shows progress, commits each checkpoint, and stops a run whose loss is no number."""

    def __init__(self, trainer: Any, out: Path, counter: Meter) -> None:
        self.trainer, self.out, self.counter = trainer, out, counter

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Give the trainer its count of tokens back, which no checkpoint of it holds."""
        seen = [entry["num_tokens"] for entry in state.log_history if "num_tokens" in entry]
        if seen and hasattr(self.trainer, "_total_train_tokens"):
            self.trainer._total_train_tokens = int(seen[-1])

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> Any:
        """Take a held-out loss at the last step, whether or not it is a multiple of the interval."""
        control.should_evaluate |= state.global_step >= state.max_steps and args.eval_strategy != "no"
        return control

    def on_log(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Move the meter on."""
        loss = kwargs["logs"].get("loss")
        if loss is None:
            return
        if not math.isfinite(loss):
            raise StageFailed(
                f"{self.counter.what}: the loss is {loss} at step {state.global_step}; lower lr or raise warmup"
            )
        self.counter.advance(loss=loss)

    def on_save(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Make the checkpoint count, then take the older ones away."""
        folder = _folder(self.out) / f"checkpoint-{state.global_step}"
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                _fsync(path)
        fsync_dir(folder)
        with atomic_file(folder / COMPLETE, self.out) as fresh:
            fresh.write_text("{}\n")
        commit_progress(self.out, Progress(state.global_step, state.max_steps, "steps"))
        for older in sorted(_folder(self.out).glob("checkpoint-*")):
            if older != folder:
                (older / COMPLETE).unlink(missing_ok=True)
                shutil.rmtree(older)


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
