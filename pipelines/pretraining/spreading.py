"""The loss of an objective over the mesh: whole models whose gradients are summed (DDP), shares (FSDP2), cut blocks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from pipelines.artifacts.curve import Row
from pipelines.models.parts import blocks, output_vectors
from pipelines.pretraining.context_parallel import Contexts, context_mesh
from pipelines.pretraining.expert_parallel import deal_out_experts
from pipelines.pretraining.precision import arithmetic
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.sharding import whole
from pipelines.pretraining.tensor_parallel import cut_tensors
from pipelines.pretraining.world import World

Loss = Callable[[Any, Tensor, Tensor], Tensor]


class ModelWithLoss(nn.Module):
    """A model and its loss as one module, so that DDP and FSDP2 see the whole forward pass.

    A loss reaches into the model for its hidden states and its output vectors and never calls the model itself.
    """

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, summed over the targets that count."""
        return self.loss(self.model, inputs, targets)


class SpreadLoss:
    """Takes the gradients of this process's rows; with the last of a step they are summed over all processes.

    A model that is shared out keeps the parts of its weights that are its own: the optimizers are built afterwards.
    """

    def __init__(self, model: nn.Module, loss: Loss, world: World, config: LoopConfig) -> None:
        self.model, self.world, self.config = model, world, config
        self.module: nn.Module = ModelWithLoss(model, loss)
        self.rows_at_once = config.micro_batch
        self.contexts: Contexts | None = None
        if world.mesh is None:
            return
        if world.parallel.context_parallel_degree > 1:
            self.contexts = Contexts(model, context_mesh(world.parallel, config.device))
        if world.parallel.tensor_parallel_degree > 1:
            cut_tensors(model, world.mesh["tp"])
        if world.parallel.is_sharded:
            shard(self.module, model, world, config)
        elif world.parallel.data_degree > 1:
            self.module = DistributedDataParallel(self.module, forward_sync_buffers=False, gradient_as_bucket_view=True)
            self.module.register_comm_hook(None, _summed)

    def backward(self, inputs: Tensor, targets: Tensor, count: Tensor, scale: float, *, last: bool) -> Tensor:
        """Add the gradients of these rows' loss over `count`, times `scale`; return the loss over `count`.

        Gradients go round the processes with the `last` part of a step only.
        """
        cut = self.contexts.cut(inputs, targets) if self.contexts else nullcontext((inputs, targets))
        with cut as own:
            with arithmetic(self.config), self._part(last):
                part: Tensor = self.module(*own) / count
            torch.autograd.backward(part * scale)
        return part.detach()

    def figures(self) -> Row:
        """Return what there is to tell of the last step beside its loss; every process must ask."""
        return {}

    @contextmanager
    def measuring(self) -> Iterator[Any]:
        """Yield the model for forward passes without its loss; every process must do the same with it."""
        fsdp = self.module if isinstance(self.module, FSDPModule) else None
        if fsdp:
            fsdp.unshard()
        yield self._readable()
        if fsdp:
            fsdp.reshard()

    def _readable(self) -> Any:
        """Return the model, or what stands for it where its output vectors are cut."""
        if self.world.parallel.tensor_parallel_degree == 1:
            return self.model
        return stand_in(self.model.get_submodule("model"), whole(output_vectors(self.model)))

    @contextmanager
    def _part(self, last: bool) -> Iterator[None]:
        """Open the forward pass of a part of the batch: gradients go round the processes with the last part only."""
        if isinstance(self.module, FSDPModule):
            self.module.set_requires_gradient_sync(last)
        ddp = self.module if isinstance(self.module, DistributedDataParallel) else None
        with ddp.no_sync() if ddp and not last else nullcontext():
            yield


def stand_in(trunk: Callable[..., Any], output_vectors: Tensor) -> Any:
    """Return what a measurement reads as a model: it asks it for hidden states and for its output vectors."""
    head = SimpleNamespace(weight=output_vectors)
    return SimpleNamespace(base_model=trunk, get_output_embeddings=lambda: head)


def shard(module: nn.Module, model: nn.Module, world: World, config: LoopConfig) -> None:
    """Share the weights of a module, in which `model` is, out over its copy's processes, block by block (FSDP2)."""
    offload = CPUOffloadPolicy(pin_memory=config.device == "cuda") if world.parallel.cpu_offload else OffloadPolicy()
    mesh = _data_mesh(world)
    dealt = deal_out_experts(model, mesh) if world.parallel.expert_parallel_degree > 1 else set()
    for part in (*blocks(model), module):
        fully_shard(part, mesh=mesh, offload_policy=offload, ignored_params=dealt)
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)


def _data_mesh(world: World) -> DeviceMesh:
    """Return the processes that share a batch: in two dimensions where there are several copies (HSDP)."""
    if world.mesh is None:
        raise TypeError("one process alone has no mesh")
    copies = world.parallel.data_parallel_replicate_degree > 1
    return world.mesh["dp_replicate", "dp_shard"] if copies else world.mesh["dp_shard"]


def _summed(
    state: None,
    bucket: dist.GradBucket,  # type: ignore[name-defined]  # DDP asks for this very annotation
) -> torch.futures.Future[Tensor]:
    """Add a bucket of gradients up over the processes; DDP's own rule is the mean."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    summed: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return summed
