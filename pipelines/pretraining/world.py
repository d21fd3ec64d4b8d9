"""The processes of one run: which rows of a batch each takes, and what they tell each other."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

Mode = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class World:
    """This process among those of the run; alone, it needs no process group and tells nobody anything."""

    rank: int = 0
    size: int = 1
    mode: Mode = "ddp"

    @property
    def first(self) -> bool:
        """Whether this process writes what all of them have."""
        return self.rank == 0

    @property
    def shards(self) -> int:
        """Into how many parts weights and optimizer state are cut."""
        return self.size if self.mode == "fsdp" else 1

    def rows(self, batch: int) -> slice:
        """Return this process's rows of a batch of so many; `batch` divides by the number of processes."""
        share = batch // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def total(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes, the same bits in each."""
        if self.size == 1:
            return value
        summed = value.detach().clone()
        dist.all_reduce(summed)
        return summed

    def any(self, fact: bool) -> bool:
        """Return whether the fact holds in any process."""
        return bool(self.total(torch.tensor(int(fact))))

    def all(self, fact: bool) -> bool:
        """Return whether the fact holds in every process."""
        return not self.any(not fact)

    def said_by_first(self, values: list[float]) -> list[float]:
        """Return the numbers that the first process gives; the others give as many."""
        if self.size == 1 or not values:
            return values
        told = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(told, src=0)
        return [float(value) for value in told]

    def wait(self) -> None:
        """Return when every process has come here."""
        self.any(False)


ALONE = World()
