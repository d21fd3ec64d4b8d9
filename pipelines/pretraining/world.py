"""The processes of one run: where each stands in the mesh, what it takes and owns, and what they tell each other."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from pipelines.pretraining.mesh import DIMENSIONS, ParallelConfig
from pipelines.pretraining.sharding import cut_dimensions, held

INPUT_VECTORS = "model.embed_tokens.weight"
"""The table that the first stage of a pipeline owns, also where the last one has a copy as its output vectors."""


@dataclass(frozen=True)
class World:
    """This process among those of the run; alone, it needs no process group and tells nobody anything."""

    rank: int = 0
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    mesh: DeviceMesh | None = None
    """The processes in the dimensions of `DIMENSIONS`; none where one trains alone."""

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.parallel.processes

    @property
    def first(self) -> bool:
        """Whether this process writes what all of them have."""
        return self.rank == 0

    @property
    def place(self) -> dict[str, int]:
        """This process's coordinates, by dimension of the mesh."""
        rest, found = self.rank, {}
        for name, size in reversed([*zip(DIMENSIONS, self.parallel.sizes, strict=True)]):
            rest, found[name] = divmod(rest, size)
        return found

    def rows(self, batch: int) -> slice:
        """Return this process's rows of a batch of so many; `batch` divides by the data parallel degrees."""
        place, share = self.place, batch // self.parallel.data_degree
        number = place["dp_replicate"] * self.parallel.shards + place["dp_shard"]
        number //= self.parallel.context_parallel_degree  # neighbours take the same rows and cut them themselves
        return slice(number * share, (number + 1) * share)

    def owns(self, name: str, tensor: Tensor) -> bool:
        """Return whether this process answers for what it holds of a tensor: of all who hold the same, one does."""
        if self.parallel.is_zero:  # all have all of it whole, when they are asked
            return zlib.crc32(name.encode()) % self.size == self.rank
        place = self.place
        stage = place.pop("pp")
        others = [at for dimension, at in place.items() if dimension not in cut_dimensions(tensor)]
        return not any(others) and not (stage and INPUT_VECTORS in name)

    def length(self, tensors: Mapping[str, Tensor]) -> float:
        """Return the Euclidean length of tensors together, each counted once and whole, the same bits everywhere."""
        if self.mesh is None:
            return float(torch.nn.utils.get_total_norm(tensors.values()))
        owned = [held(tensor) for name, tensor in tensors.items() if self.owns(name, tensor)]
        square = torch.nn.utils.get_total_norm(owned).double().cpu() ** 2
        return float(self.total(square).sqrt())

    def total(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes, the same bits in each."""
        if self.size == 1:
            return value
        summed = value.detach().clone()
        dist.all_reduce(summed)
        return summed

    def total_of_rows(self, value: Tensor) -> Tensor:
        """Return the sum over the parts of a batch of what the last stage of each part's pipeline gives."""
        place = self.place
        speaks = place["tp"] == 0 and place["pp"] == self.parallel.pipeline_parallel_degree - 1
        return self.total(value if speaks else torch.zeros_like(value))

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
