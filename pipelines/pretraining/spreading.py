"""The loss of an objective over several processes: whole models whose gradients are summed (DDP), or shares (FSDP2)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from pipelines.models.parts import blocks
from pipelines.pretraining.world import World

Loss = Callable[[Any, Tensor, Tensor], Tensor]


class _Loss(nn.Module):
    """A model and its loss as one module, so that DDP and FSDP2 see the whole forward pass.

    A loss reaches into the model for its hidden states and its output vectors and never calls the model itself.
    """

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss(self.model, inputs, targets)


class SpreadLoss:
    """Returns the loss of this process's rows; its backward pass ends with gradients summed over all processes.

    A model that is shared out keeps the rows of its weights that are its own: the optimizers are built afterwards.
    """

    def __init__(self, model: nn.Module, loss: Loss, world: World, device: str) -> None:
        self.module: nn.Module = _Loss(model, loss)
        if world.size > 1 and world.mode == "ddp":
            self.module = DistributedDataParallel(self.module, forward_sync_buffers=False, gradient_as_bucket_view=True)
            self.module.register_comm_hook(None, _summed)
        elif world.size > 1:
            mesh = init_device_mesh(device, (world.size,))
            for block in blocks(model):
                fully_shard(block, mesh=mesh)
            fully_shard(self.module, mesh=mesh)
            for part in self.module.modules():
                if isinstance(part, FSDPModule):
                    part.set_gradient_divide_factor(1.0)
                    part.set_force_sum_reduction_for_comms(True)

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss summed over the targets that count."""
        value: Tensor = self.module(inputs, targets)
        return value

    @contextmanager
    def part(self, last: bool) -> Iterator[None]:
        """Open the forward pass of a part of the batch: gradients go round the processes with the last part only."""
        if isinstance(self.module, DistributedDataParallel) and not last:
            with self.module.no_sync():
                yield
            return
        if isinstance(self.module, FSDPModule):
            self.module.set_requires_gradient_sync(last)
        yield

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Open a block in which the model may be called without its loss; every process must do the same in it."""
        if not isinstance(self.module, FSDPModule):
            yield
            return
        self.module.unshard()
        yield
        self.module.reshard()


def _summed(
    state: None,
    bucket: dist.GradBucket,  # type: ignore[name-defined]  # DDP asks for this very annotation
) -> torch.futures.Future[Tensor]:
    """Add a bucket of gradients up over the processes; DDP's own rule is the mean."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    summed: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return summed
