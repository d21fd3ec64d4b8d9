"""Where a run stands between two steps: what a checkpoint holds beside tensors."""

from dataclasses import dataclass, field

from pipelines.artifacts.curve import Row


@dataclass
class Position:
    """Counters of one run, all of which its future depends on."""

    step: int = 0
    tokens: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    spikes: int = 0
    rewinds: int = 0
    jumped: int = 0
    """Batches left out so far, so that step `s` reads batch `s + jumped`."""
    jumps: list[list[int]] = field(default_factory=list)
    """First and last number of each stretch of batches that was left out."""
    best_loss: float | None = None
    best_step: int = 0
    reference_loss: float | None = None
    """The held-out loss that the next must be lower than, by early stopping's `min_delta`."""
    stale: int = 0
    """Held-out measurements since that one."""
    ended: bool = False
    """Early stopping ended the run."""
    curve: list[Row] = field(default_factory=list)

    @property
    def batch(self) -> int:
        """The number of the batch that the next step reads."""
        return self.step + self.jumped

    @property
    def taken(self) -> int:
        """Steps that changed the weights."""
        return self.step - self.skipped

    def is_finished(self, max_steps: int) -> bool:
        """Return whether no step is left to take."""
        return self.ended or self.step >= max_steps

    def rewound(self, before: "Position") -> "Position":
        """Return the position to go on from when `self`, whose batch is at fault, goes back to `before`.

        What was read since `before`, to the batch at fault, is left out (Chowdhery et al., "PaLM", 2022, section 5.1).
        """
        left_out = [before.batch, self.batch]
        back = Position(**{**vars(before), "jumps": [*before.jumps, left_out], "curve": list(before.curve)})
        back.jumped = self.batch + 1 - before.step
        back.spikes, back.rewinds = self.spikes, self.rewinds + 1
        return back
