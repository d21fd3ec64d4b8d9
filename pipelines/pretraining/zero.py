"""DeepSpeed in place of FSDP2: its ZeRO cuts optimizer state, gradients and weights, and takes the steps.

After Rajbhandari et al., "ZeRO" (2020). DeepSpeed keeps weights and state in flat pieces of its own; here they have our
names and whole shapes again, which is what checkpoints hold: none of DeepSpeed's own files, which are pickles.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipelines.models.parts import output_vectors
from pipelines.pretraining.checkpoint import Tensors
from pipelines.pretraining.optimizer import build_optimizers, set_lr
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.spreading import Loss, ModelWithLoss, SpreadLoss, stand_in
from pipelines.pretraining.step import TrainingStep
from pipelines.pretraining.world import World
from pipelines.pretraining.zero_settings import FILE, zero_settings


def zero_engine(model: nn.Module, loss: Loss, world: World, config: LoopConfig, log: Path) -> "ZeroStep":
    """Return the step of a model that DeepSpeed shares out, and write down what DeepSpeed was told."""
    # DeepSpeed's own calls, one a step and more
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+_tensor` is deprecated", FutureWarning)
    import deepspeed

    settings = zero_settings(config, world.parallel, output_vectors(model).shape[1])
    if world.first:
        log.mkdir(parents=True, exist_ok=True)
        (log / FILE).write_text(json.dumps(settings, indent=1) + "\n")
    [optimizer] = build_optimizers(model, config)
    engine, *_ = deepspeed.initialize(
        model=ModelWithLoss(model, loss), optimizer=optimizer, config=settings, dist_init_required=False
    )
    return ZeroStep(model, optimizer, ZeroLoss(model, engine, world, config))


class ZeroLoss(SpreadLoss):
    """The loss of a model that DeepSpeed has shared out."""

    def __init__(self, model: nn.Module, engine: Any, world: World, config: LoopConfig) -> None:
        self.model, self.engine, self.world, self.config = model, engine, world, config
        self.rows_at_once = config.micro_batch
        self.is_whole = False
        """Whether DeepSpeed has the gradients of all rows of a step."""

    def backward(self, inputs: Tensor, targets: Tensor, count: Tensor, scale: float, *, last: bool) -> Tensor:
        """Add the gradients of these rows' loss over `count`; return the loss over `count`."""
        self.engine.set_gradient_accumulation_boundary(last)
        part: Tensor = self.engine(inputs, targets) / count
        self.engine.backward(part * scale * self.world.size, scale_wrt_gas=False)  # it takes the mean over processes
        self.is_whole = last
        return part.detach()

    @contextmanager
    def measuring(self) -> Iterator[Any]:
        """Yield the model for forward passes without its loss; every process must do the same with it."""
        if self.world.parallel.stage_of_zero < 3:
            yield self.model
            return
        from deepspeed.runtime.zero import GatheredParameters

        table = output_vectors(self.model)
        with GatheredParameters([table]):
            whole = table.detach().clone()
        yield stand_in(self.model.get_submodule("model"), whole)


class ZeroStep(TrainingStep):
    """Takes steps with a model that DeepSpeed has shared out."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, loss: ZeroLoss) -> None:
        super().__init__(model, [optimizer], loss, loss.config, loss.world)
        self.held, self.engine, self.optimizer = loss, loss.engine, optimizer
        self.stage = loss.world.parallel.stage_of_zero
        self.weights = dict(model.named_parameters())

    def clip(self) -> float:
        """Return the length of the gradient; DeepSpeed shortens it when it steps."""
        within = self.engine.optimizer
        lengths = within._get_norm_groups() if self.stage == 3 else [within.scaled_global_norm()]
        known = torch.stack([length.double().cpu() for length in lengths])
        if (known < 0).any():  # what is no number
            return float("nan")
        return float(torch.linalg.vector_norm(known))

    def apply(self, lr: float) -> None:
        """Change the weights by the gradients at hand."""
        set_lr(self.optimizers, lr)
        self.engine.step()
        self.held.is_whole = False

    def forget_gradients(self) -> None:
        """Give the gradients up, by a step of DeepSpeed's in which the optimizer changes nothing.

        Those of a part of a step stay: the run is about to stop.
        """
        if not self.held.is_whole:
            return
        vars(self.optimizer)["step"] = _no_step
        try:
            self.engine.step()
        finally:
            del vars(self.optimizer)["step"]
        self.held.is_whole = False

    def tensors(self) -> dict[str, Tensors]:
        """Return weights and optimizer state by name; each is put together from all processes when it is asked for."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        self._link_state()
        state: dict[str, Tensor] = next(iter(self.optimizer.state.values()), {})
        fields = {
            f"{name}:{field}": (weight, field) for name, weight in self.weights.items() for field in sorted(state)
        }

        def field_of(key: str) -> Tensor:
            weight, field = fields[key]
            value: Tensor = state[field] if state[field].ndim == 0 else safe_get_full_optimizer_state(weight, field)
            return value

        return {
            "model": Gathered(list(self.weights), lambda name: safe_get_full_fp32_param(self.weights[name])),
            "optimizer": Gathered(list(fields), field_of),
        }

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensors]) -> None:
        """Take over weights and optimizer state that `tensors` gave; every process reads them whole."""
        from deepspeed.runtime.zero import GatheredParameters
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        weights, states, device = tensors["model"], tensors["optimizer"], self.config.device
        any_name = next(iter(self.weights))
        fields = {key.rpartition(":")[2]: states[key] for key in states if key.rpartition(":")[0] == any_name}
        self._make_state(fields)
        for name, weight in self.weights.items():
            value = weights[name].to(device)
            with GatheredParameters([weight], modifier_rank=0, enabled=self.stage == 3):
                weight.copy_(value)
            safe_set_full_fp32_param(weight, value)
            for field in (field for field, value in fields.items() if value.ndim):
                safe_set_full_optimizer_state(weight, states[f"{name}:{field}"].to(device), field)

    def _make_state(self, fields: Mapping[str, Tensor]) -> None:
        """Give the optimizer a state of zeros with these fields for each of DeepSpeed's pieces, scalars as they are."""
        within = self.engine.optimizer
        pieces = within.fp32_partitioned_groups_flat if self.stage == 3 else within.single_partition_of_fp32_groups
        for piece in pieces:
            self.optimizer.state[piece] = {
                field: torch.zeros_like(piece) if value.ndim else value.to(piece.device, copy=True)
                for field, value in fields.items()
            }
        self._link_state()

    def _link_state(self) -> None:
        """Have the weights know their places in the optimizer's state: DeepSpeed knows those of one group."""
        within = self.engine.optimizer
        if self.stage < 3 and self.optimizer.state:
            within._hp_optimizer_states_linked = False
            within._lazy_init_hp_params_optimizer_state()


class Gathered(Mapping[str, Tensor]):
    """Tensors that are put together from all processes one by one: every process must ask for each in one order."""

    def __init__(self, names: list[str], gather: Callable[[str], Tensor]) -> None:
        self.names, self.gather = names, gather

    def __getitem__(self, name: str) -> Tensor:
        return self.gather(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _no_step(closure: None = None) -> None:
    return None
