"""What a pre-training run is by its config alone: parameters, tokens, operations, and how its steps are cut."""

from dataclasses import dataclass

from pipelines.models.architectures import ARCHITECTURES
from pipelines.models.counting import count_parameters, flops_per_token
from pipelines.pretraining.compile_rule import compiling_pays
from pipelines.pretraining.objectives import OBJECTIVES, objective_of, work_of
from pipelines.pretraining.pretrain import PretrainConfig


@dataclass(frozen=True)
class Counts:
    """The size of a run."""

    parameters: int
    tokens: int
    flops: float
    """Forward and backward, of all tokens."""


def counts_of(config: PretrainConfig, vocab_size: int) -> Counts:
    """Return what the whole run has to do with a vocabulary of this size."""
    objective = objective_of(config.objective, config.architecture)
    vocabulary = vocab_size + OBJECTIVES[objective].extra_ids
    weights = count_parameters(
        config.size,
        vocabulary,
        architecture=config.architecture,
        max_length=config.sequence_length,
        tied=config.options.tied,
    )
    work = work_of(objective, config.sequence_length, config.mask_share, config.span_length)
    each = flops_per_token(
        config.size,
        vocabulary,
        config.sequence_length,
        architecture=config.architecture,
        predicted=work.predicted,
        computed=work.computed,
    )
    tokens = config.max_steps * config.global_batch * config.sequence_length
    return Counts(weights, tokens, float(each) * tokens)


def rows_at_once(config: PretrainConfig) -> int:
    """Return how many sequences are computed at once."""
    return min(config.micro_batch, config.global_batch // config.parallel.data_degree)


def parts_of_a_step(config: PretrainConfig) -> float:
    """Return how many times as many sequences a step of one process has."""
    return config.global_batch / config.parallel.data_degree / rows_at_once(config)


def is_compiled(config: PretrainConfig, vocab_size: int) -> bool:
    """Return whether the run's model will be compiled."""
    weights = counts_of(config, vocab_size).parameters
    return compiling_pays(config, weights, mixture=ARCHITECTURES[config.architecture].experts is not None)
