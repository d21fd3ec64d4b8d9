"""A model cut into stages of a pipeline, each process with its own blocks (one forward, one backward in turn).

The schedule is 1F1B (Narayanan et al., "PipeDream-Flush", 2021), torch's own. A stage that has waited for others has
idled: of `p` stages and `m` micro-batches at best the share `(p - 1) / (m + p - 1)`, its bubble.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

from pipelines.artifacts.curve import Row
from pipelines.models.parts import output_vectors
from pipelines.pretraining.precision import arithmetic
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.sharding import held, whole
from pipelines.pretraining.spreading import SpreadLoss, shard, stand_in
from pipelines.pretraining.tensor_parallel import cut_tensors
from pipelines.pretraining.world import World

Mark = float | torch.cuda.Event


@runtime_checkable
class Staged(Protocol):
    """An objective whose model is a stack of blocks between a table of input vectors and one of output vectors."""

    def positions(self, inputs: Tensor) -> Tensor | None:
        """Return the positions of inputs where they are not 0, 1, 2 and so on."""
        ...

    def loss(self, model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss summed over the targets that count."""
        ...


class Received(nn.Module):
    """Stands for the input vectors in a later stage: what the stage before has made of the inputs."""

    def __init__(self, weight: nn.Parameter | None) -> None:
        super().__init__()
        self.hidden: Tensor | None = None
        self.weight = weight
        """The table itself where it is this stage's output vectors as well."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return what was received."""
        if self.hidden is None:
            raise TypeError("nothing was received from the stage before")
        return self.hidden


class Passed(nn.Module):
    """Stands for a block of another stage."""

    def forward(self, hidden_states: Tensor, **_: Any) -> Tensor:
        """Return what comes in."""
        return hidden_states


class Stage(nn.Module):
    """This process's part of the model: from inputs or received states to the states that it sends, or to the loss."""

    def __init__(self, model: nn.Module, objective: Staged, config: LoopConfig, *, last: bool) -> None:
        super().__init__()
        self.model, self.objective, self.config, self.last = model, objective, config, last

    def forward(self, received: Tensor, *, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the hidden states, from the last stage the summed loss."""
        with arithmetic(self.config):
            self.take(received)
            if self.last:
                return self.objective.loss(self.model, inputs, targets)
            return self.hidden(inputs, self.objective.positions(inputs))

    def take(self, received: Tensor | None) -> None:
        """Have the next pass begin with these states where this is no first stage."""
        table = self.model.get_submodule("model.embed_tokens")
        if isinstance(table, Received):
            table.hidden = received

    def hidden(self, inputs: Tensor, positions: Tensor | None) -> Tensor:
        """Return the states behind this stage's last block."""
        trunk = self.model.get_submodule("model")
        states: Tensor = trunk(input_ids=inputs, position_ids=positions, use_cache=False).last_hidden_state
        return states


class TimedStage(PipelineStage):
    """A stage that notes when it computes, on the device's own clock."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.spans: list[tuple[Mark, Mark]] = []

    def forward_one_chunk(self, *arguments: Any, **named: Any) -> Any:
        """Return what the stage makes of a micro-batch."""
        with self.noting():
            return super().forward_one_chunk(*arguments, **named)

    def backward_one_chunk(self, *arguments: Any, **named: Any) -> None:
        """Take a micro-batch's gradients."""
        with self.noting():
            super().backward_one_chunk(*arguments, **named)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note when the block began and ended; nothing waits for the device."""
        start = _mark(self.device)
        yield
        self.spans.append((start, _mark(self.device)))


class PipelinedLoss(SpreadLoss):
    """The loss of a model whose blocks are dealt out to stages, in turn cut and shared out as the mesh says."""

    def __init__(self, model: nn.Module, objective: Staged, world: World, config: LoopConfig) -> None:
        self.model, self.world, self.config, mesh = model, world, config, world.mesh
        if mesh is None:
            raise TypeError("one process alone is no pipeline")
        self.number, self.stages = world.place["pp"], world.parallel.pipeline_parallel_degree
        self.table_shape = tuple(model.get_parameter("model.embed_tokens.weight").shape)
        tied = cut_stages(model, self.number, self.stages)
        if world.parallel.tensor_parallel_degree > 1:
            cut_tensors(model, mesh["tp"])
        self.part = Stage(model, objective, config, last=self.is_last)
        self.module = self.part
        if world.parallel.is_sharded:
            shard(self.part, model, world, config)
        self.rows_at_once = config.global_batch // world.parallel.data_degree
        self.group = mesh.get_group("pp")
        self.ends = _ends(mesh) if tied else None
        self.micro_batches = self.rows_at_once // config.micro_batch
        device = torch.device(config.device)
        inputs = torch.empty(config.micro_batch, config.sequence_length, dtype=torch.int64, device=device)
        states = torch.empty(*inputs.shape, self.table_shape[1], device=device)
        self.stage = TimedStage(
            self.part,
            self.number,
            self.stages,
            device,
            input_args=states.requires_grad_() if self.number else inputs,
            output_args=states.new_zeros(()).requires_grad_() if self.is_last else states.requires_grad_(),
            group=self.group,
        )
        self.schedule = Schedule1F1B(self.stage, self.micro_batches, self._over_count, scale_grads=False)
        self.count, self.scale = torch.ones(()), 1.0
        self.losses: list[Tensor] = []

    @property
    def is_last(self) -> bool:
        """Whether this process's stage has the loss."""
        return self.number == self.stages - 1

    def backward(self, inputs: Tensor, targets: Tensor, count: Tensor, scale: float, *, last: bool) -> Tensor:
        """Add the gradients of a step's rows, in micro-batches; return their loss, 0 but in the last stage."""
        self.count, self.scale, self.losses, self.stage.spans = count, scale, [], []
        with self.stage.noting():
            self.schedule.step(
                *(() if self.number else (inputs,)),
                target=targets if self.is_last else None,
                return_outputs=False,
                inputs=inputs,
                targets=targets,
            )
        self._add_up_ends()
        return torch.stack(self.losses).sum() if self.losses else count.new_zeros((), dtype=torch.float32)

    def figures(self) -> Row:
        """Return the share of the last step in which a stage waited, the mean over all, and what the schedule costs."""
        *computing, step = (_seconds(*span) for span in self.stage.spans)
        idle = self.world.total(torch.tensor(1 - sum(computing) / step, dtype=torch.float64))
        ideal = (self.stages - 1) / (self.micro_batches + self.stages - 1)
        return {"bubble_share": float(idle) / self.world.size, "bubble_share_of_schedule": ideal}

    def _over_count(self, loss: Tensor, targets: Tensor) -> Tensor:
        part = loss / self.count
        self.losses.append(part.detach())
        return part * self.scale

    def _add_up_ends(self) -> None:
        """Give the first and the last stage, which both have the vocabulary's table, the sum of their gradients."""
        if self.ends is not None and (self.number == 0 or self.is_last):
            gradient = self.model.get_parameter("model.embed_tokens.weight").grad
            if gradient is not None:
                dist.all_reduce(held(gradient), group=self.ends)

    def _readable(self) -> Any:
        """Return what stands for the model: its states go through all stages and come back to each."""
        own = whole(output_vectors(self.model)).detach() if self.is_last else None
        weight = self._from_last(own, self.table_shape)
        return stand_in(self._through_stages, weight)

    def _through_stages(self, input_ids: Tensor, position_ids: Tensor | None, use_cache: bool) -> SimpleNamespace:
        """Return the last stage's hidden states in every process of the pipeline."""
        shape = (*input_ids.shape, self.table_shape[1])
        if self.number:
            received = torch.empty(shape, device=input_ids.device)
            dist.recv(received, group=self.group, group_src=self.number - 1)
            self.part.take(received)
        states = self.part.hidden(input_ids, position_ids)
        if not self.is_last:
            dist.send(states, group=self.group, group_dst=self.number + 1)
        return SimpleNamespace(last_hidden_state=self._from_last(states, shape))

    def _from_last(self, own: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        """Return the last stage's tensor of this shape in every process of the pipeline."""
        told = own if self.is_last and own is not None else torch.empty(shape, device=self.stage.device)
        dist.broadcast(told, group=self.group, group_src=self.stages - 1)
        return told


def cut_stages(model: nn.Module, number: int, stages: int) -> bool:
    """Leave in the model what the stage of this number has; return whether both ends have the vocabulary's table."""
    trunk, head = model.get_submodule("model"), model.get_submodule("lm_head")
    table, layers = trunk.get_submodule("embed_tokens"), trunk.get_submodule("layers")
    weight = table.get_parameter("weight")
    tied, last = weight is head.get_parameter("weight"), number == stages - 1
    blocks = list(layers.children())
    for index in range(len(blocks)):
        if index * stages // len(blocks) != number:
            layers.register_module(str(index), Passed())
    if number:
        trunk.register_module("embed_tokens", Received(weight if tied and last else None))
    if not last:
        trunk.register_module("norm", nn.Identity())
        model.register_module("lm_head", nn.Identity())
    return tied


def _ends(mesh: DeviceMesh) -> dist.ProcessGroup | None:
    """Return the group of the first and the last stage of this process's pipeline; every process must ask."""
    first, last = mesh.mesh[0].flatten().tolist(), mesh.mesh[-1].flatten().tolist()
    pairs = [list(pair) for pair in zip(first, last, strict=True)]
    found: tuple[dist.ProcessGroup | None, Any] = dist.new_subgroups_by_enumeration(pairs)  # type: ignore[no-untyped-call]
    return found[0]


def _mark(device: torch.device) -> Mark:
    """Return this moment on the device's clock."""
    if device.type == "cpu":
        return time.monotonic()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _seconds(start: Mark, end: Mark) -> float:
    """Return the time between two moments; a GPU must have come to the second one."""
    if isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000
    return cast(float, end) - cast(float, start)
