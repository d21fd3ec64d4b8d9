"""Further copies of the weights that a run keeps for the sake of what it publishes: their running average, the best."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipelines.artifacts.errors import UserError
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.sharding import held, placed

AVERAGE, BEST = "average:", "best:"
UPDATES = AVERAGE + "updates"
"""How many steps were drawn into the average."""
AVERAGED = ("average", "swa")
"""What `publish` calls the running average, whose past fades, and the equal one."""


class Averages:
    """The running or the equal average of the weights or those of the lowest held-out loss, where they are published.

    Each is one more copy of the weights in memory and in every checkpoint.
    """

    def __init__(self, model: nn.Module, config: LoopConfig) -> None:
        self.model, self.publish, self.decay, self.swa = model, config.publish, config.ema_decay, config.swa
        self.swa_start = config.swa.start * config.max_steps
        self.held: dict[str, Tensor] = {}
        self.start_over()

    def start_over(self) -> None:
        """Forget the past: the copies begin as the weights are now."""
        self.held = {}
        if self.publish in AVERAGED:
            self.held = {AVERAGE + name: weight.detach().clone() for name, weight in self.model.named_parameters()}
            self.held[UPDATES] = torch.zeros(1, dtype=torch.int64)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Draw the weights, which step `step`, counted from 1, has changed, into the average.

        The decay of the running one rises from .18 to the configured one, so that the first, random weights are soon
        forgotten. In the equal one all weights that enter count the same (Izmailov et al., 2018); until the first
        enters, it is the weights of the last step.
        """
        share = self._share(step)
        if share:
            names, weights = zip(*self.model.named_parameters(), strict=True)
            averages = [held(self.held[AVERAGE + name]) for name in names]
            torch._foreach_lerp_(averages, [held(weight) for weight in weights], share)

    def _share(self, step: int) -> float:
        """Count the weights after a step if they enter, and return which share of the average they become."""
        if self.publish not in AVERAGED:
            return 0.0
        if self.publish == "swa" and (step <= self.swa_start or step % self.swa.every):
            return 0.0 if self.held[UPDATES] else 1.0
        self.held[UPDATES] += 1
        taken = int(self.held[UPDATES])
        return 1 / taken if self.publish == "swa" else 1 - min(self.decay, (1 + taken) / (10 + taken))

    def keep_best(self) -> None:
        """Keep the weights as they are now, since none had a lower held-out loss."""
        if self.publish == "best":
            self.held = {BEST + name: weight.detach().clone() for name, weight in self.model.named_parameters()}

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds of this, by name."""
        return dict(self.held)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what a checkpoint held; begin afresh where it held no such copies."""
        self.start_over()
        prefix = {"average": AVERAGE, "swa": AVERAGE, "best": BEST}.get(self.publish)
        weights = dict(self.model.named_parameters())
        for name in tensors:
            if prefix and name.startswith(prefix):
                copy = tensors[name]
                weight = weights.get(name.removeprefix(prefix))
                if weight is not None:
                    self.held[name] = placed(copy, weight.detach()).clone()
                elif name == UPDATES:
                    self.held[name] = copy.clone()

    @torch.no_grad()
    def into_model(self) -> None:
        """Put the weights that are to be published into the model; those of the last step are there already.

        Raises UserError where the best are asked for and none was measured.
        """
        if self.publish == "best" and not self.held:
            raise UserError("publish: 'best' needs a held-out loss and none was finite; set publish to 'last'")
        for name, weight in self.model.named_parameters():
            for prefix in (AVERAGE, BEST):
                if prefix + name in self.held:
                    weight.copy_(self.held[prefix + name])
