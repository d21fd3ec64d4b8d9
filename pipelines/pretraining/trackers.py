"""Where the log of a run goes beside its own file: TensorBoard, Weights & Biases, trackio; all of them offline."""

import hashlib
import importlib
import logging
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Protocol

from pipelines.artifacts.curve import Row
from pipelines.artifacts.errors import UserError
from pipelines.pretraining.settings import LoopConfig

logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """Something that shows figures over steps."""

    def write(self, step: int, figures: Row) -> None:
        """Take the figures of a step."""
        ...

    def close(self) -> None:
        """Write what is still held."""
        ...


def open_trackers(config: LoopConfig, folder: Path, step: int) -> list[Tracker]:
    """Return the trackers that the config names, for the run that logs in `folder` and goes on after `step`.

    TensorBoard, which is on by default, is done without where it is not installed, with a warning; raises UserError
    for another one that is asked for and is not there.
    """
    opened: list[Tracker] = []
    run = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:16]
    if "tensorboard" in config.trackers:
        try:
            opened.append(TensorBoard(folder / "tensorboard", step))
        except ImportError:
            logger.warning("trackers: tensorboard is not installed, the log goes to %s only", folder / "metrics.jsonl")
    if "wandb" in config.trackers:
        opened.append(WeightsAndBiases(_library("wandb"), config, folder, run))
    if "trackio" in config.trackers:
        opened.append(Trackio(_library("trackio"), config, run))
    return opened


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(
            f"trackers: {name!r} is not installed; `pip install {name}`, or take it out of trackers"
        ) from None


class TensorBoard:
    """Event files in `tensorboard/`, for `tensorboard --logdir`."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # not on a bare GPU image

        self.writer: Any = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, step: int, figures: Row) -> None:
        """Take the figures of a step."""
        for name, value in figures.items():
            if name != "step":
                self.writer.add_scalar(name.replace(".", "/"), value, step)

    def close(self) -> None:
        """Flush the event file."""
        self.writer.close()


class WeightsAndBiases:
    """An offline run in `wandb/`, which `wandb sync` sends when its owner wants that."""

    def __init__(self, wandb: Any, config: LoopConfig, folder: Path, run: str) -> None:
        self.folder = folder
        self.run = wandb.init(
            project="gristmill",
            id=run,
            resume="allow",
            mode="offline",
            dir=str(folder),
            config=config.model_dump(mode="json"),
            settings=wandb.Settings(console="off", disable_git=True, disable_code=True, silent=True),
        )

    def write(self, step: int, figures: Row) -> None:
        """Take the figures of a step."""
        self.run.log(figures, step=step)

    def close(self) -> None:
        """End the run, and take away its links, which would point nowhere once the log is published."""
        self.run.finish()
        for path in (self.folder / "wandb").rglob("*"):
            if path.is_symlink():
                path.unlink()


class Trackio:
    """A run in trackio's local store (`TRACKIO_DIR`), for `trackio show`."""

    def __init__(self, trackio: Any, config: LoopConfig, run: str) -> None:
        self.trackio = trackio
        with redirect_stdout(sys.stderr):  # it talks, and our standard output is for machines
            trackio.init(
                project="gristmill",
                name=run,
                resume="allow",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
                config=config.model_dump(mode="json"),
            )

    def write(self, step: int, figures: Row) -> None:
        """Take the figures of a step."""
        self.trackio.log({name: value for name, value in figures.items() if name != "step"}, step=step)

    def close(self) -> None:
        """End the run."""
        with redirect_stdout(sys.stderr):
            self.trackio.finish()
