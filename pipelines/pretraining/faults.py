"""What is done about a step that stands out, and when too many of them end the run."""

import logging
from enum import Enum, auto
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from pipelines.artifacts.curve import Row
from pipelines.artifacts.errors import StageFailed
from pipelines.pretraining.forensics import write_bundle
from pipelines.pretraining.position import Position
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.spikes import Fault, find_fault

logger = logging.getLogger(__name__)


class Answer(Enum):
    """What becomes of a step."""

    TAKE = auto()
    SKIP = auto()
    REWIND = auto()


class Watch:
    """Judges every step before it changes the weights."""

    def __init__(self, stage: str, objective: object, config: LoopConfig, folder: Path) -> None:
        self.stage, self.objective, self.config, self.folder = stage, objective, config, folder

    def judge(self, figures: Row, batch: tuple[Tensor, Tensor], position: Position, lr: float) -> Answer:
        """Return what to do with the step, having counted it in `position` and written a bundle where it stands out.

        Raises StageFailed where it calls for one more rewind than the config allows.
        """
        fault = find_fault(figures, position.curve, self.config.spikes)
        if fault is None:
            position.skipped_in_a_row = 0
            return Answer.TAKE
        answer = self._answer(fault)
        bundle = self._bundle(fault, position, batch, lr, answer)
        logger.warning(
            "%s: step %d has loss %.4g and gradient %.4g (%s): %s; see %s",
            self.stage, position.step + 1, figures["loss"], figures["grad_norm"], fault.kind, answer.name.lower(),
            bundle or self.folder,
        )  # fmt: skip
        position.spikes += fault.kind == "spike"
        if answer is Answer.SKIP:
            position.skipped += 1
            position.skipped_in_a_row += 1
        elif answer is Answer.TAKE:
            position.skipped_in_a_row = 0
        elif position.rewinds >= self.config.spikes.max_rewinds:
            raise StageFailed(
                f"{self.stage}: step {position.step + 1} spikes after {position.rewinds} rewinds (loss "
                f"{figures['loss']:.4g}, gradient {figures['grad_norm']:.4g}); lower lr or look at "
                f"{bundle or self.folder}"
            )
        return answer

    def _bundle(
        self, fault: Fault, position: Position, batch: tuple[Tensor, Tensor], lr: float, answer: Answer
    ) -> Path | None:
        """Write the bundle and return where; a full disk costs the bundle and not the run."""
        try:
            return write_bundle(self.folder, fault, position, batch, self.objective, lr=lr, action=answer.name.lower())
        except (OSError, SafetensorError) as error:
            logger.warning("%s: no bundle of step %d could be written (%s)", self.stage, position.step + 1, error)
            return None

    def _answer(self, fault: Fault) -> Answer:
        if fault.kind == "non-finite":
            return Answer.SKIP
        return {"keep": Answer.TAKE, "skip": Answer.SKIP, "rewind": Answer.REWIND}[self.config.spikes.on_spike]


def check_skips(position: Position, config: LoopConfig) -> str | None:
    """Return why the run ends here, where too many steps were skipped one after another, else None.

    The state of that moment is kept, with its weights as they were before the first of them: a run that is started
    again goes on behind the skipped samples, and ends at once if the next step is no better.
    """
    count = position.skipped_in_a_row
    if count < config.max_skips:
        return None
    if position.taken == 0:
        return (
            f"no step had a finite loss from the first on; look at the first weights (init_from) and set dtype to fp32 "
            f"(it is {config.dtype})"
        )
    return (
        f"{count} steps in a row were skipped, the last was step {position.step}; the state before them is kept: "
        "run again to go on behind them, or lower lr and look at log/spikes"
    )
