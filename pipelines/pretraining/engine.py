"""Which of the engines takes the steps of a run: one process or FSDP2, a pipeline, or DeepSpeed."""

from pathlib import Path
from typing import Any

from torch import nn

from pipelines.artifacts.errors import UserError
from pipelines.pretraining.optimizer import build_optimizers
from pipelines.pretraining.pipelining import PipelinedLoss, Staged
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.spreading import SpreadLoss
from pipelines.pretraining.step import TrainingStep
from pipelines.pretraining.world import World


def training_step(model: nn.Module, objective: Any, config: LoopConfig, world: World, log: Path) -> TrainingStep:
    """Return what takes steps with the model, which is spread as the mesh says first.

    Raises UserError where the objective has no stages and a pipeline is asked for.
    """
    if world.parallel.is_zero:
        from pipelines.pretraining.zero import zero_engine

        return zero_engine(model, objective.loss, world, config, log)
    if world.parallel.pipeline_parallel_degree == 1:
        loss = SpreadLoss(model, objective.loss, world, config)
    elif isinstance(objective, Staged):
        loss = PipelinedLoss(model, objective, world, config)
    else:
        raise UserError("pretrain.parallel.pipeline_parallel_degree: this objective has no stages; set it to 1")
    return TrainingStep(model, build_optimizers(model, config), loss, config, world)
