"""What a held-out measurement means for the run: the best so far, or one more without a lower loss."""

import math

from pipelines.pretraining.position import Position
from pipelines.pretraining.settings import PatienceConfig


def note_heldout(position: Position, loss: float, config: PatienceConfig) -> bool:
    """Count a measurement after step `position.step`, end the run where patience is out; return whether it is the best.

    A loss that is no number counts as no better.
    """
    reference = position.reference_loss
    if math.isfinite(loss) and (reference is None or loss < reference - config.min_delta):
        position.reference_loss, position.stale = loss, 0
    else:
        position.stale += 1
    position.ended = config.measurements is not None and position.stale >= config.measurements
    if not math.isfinite(loss) or (position.best_loss is not None and loss >= position.best_loss):
        return False
    position.best_loss, position.best_step = loss, position.step
    return True
