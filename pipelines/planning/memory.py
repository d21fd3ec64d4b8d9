"""The memory of a run by its config alone: what cannot fit is refused before anything is measured, with what would."""

from collections.abc import Iterator

from pipelines.artifacts.errors import UserError
from pipelines.models.architectures import ARCHITECTURES
from pipelines.models.sizes import SIZES
from pipelines.planning.counts import counts_of, rows_at_once
from pipelines.pretraining.optimizer_settings import OptimizerName
from pipelines.pretraining.pretrain import PretrainConfig

PROCESS = 450 << 20
"""An interpreter with torch and transformers."""
STATE: dict[OptimizerName, float] = {
    "adamw": 8,
    "muon": 8,
    "lion": 4,
    "adafactor": 0.1,
    "adamw8bit": 2.1,
    "sophia": 8,
}
"""Bytes that an optimizer keeps of a weight."""
HIDDEN = 44
"""Bytes of activations a token, block and feature of the hidden states, that the backward pass needs."""
INNER = 14
"""The same a feature of the feed-forward."""
SURELY = 0.6
"""Share of the estimate that a run takes in any case: activations differ by architecture and kernel."""


def least_memory(config: PretrainConfig, vocab_size: int) -> float:
    """Return bytes that a process of the run takes at least."""
    return SURELY * estimate(config, vocab_size)


def estimate(config: PretrainConfig, vocab_size: int) -> float:
    """Return about how many bytes a process of the run takes at its highest.

    Weights, gradients, optimizer state and the copy that a checkpoint is written from; activations of one micro-batch.
    """
    row, size = ARCHITECTURES[config.architecture], SIZES[config.size]
    parallel = config.parallel
    stages = parallel.pipeline_parallel_degree
    own = counts_of(config, vocab_size).parameters / (stages * parallel.tensor_parallel_degree)
    weight, gradient, state = _held(config)
    averages = 0 if config.publish == "last" else weight
    weights = own * (weight + gradient + state + averages + (weight + state + averages))
    experts = row.experts.chosen if row.experts else 1
    each = HIDDEN * size.d_model + INNER * row.d_ff(size) * experts
    blocks = size.n_layer / stages
    if config.activation_checkpointing:
        each, blocks = each + 4 * size.n_layer * size.d_model, 1
    tokens = rows_at_once(config) * config.sequence_length
    process = PROCESS if config.device == "cpu" else 0
    return process + weights + tokens * blocks * each


def _held(config: PretrainConfig) -> tuple[float, float, float]:
    """Return the bytes of each weight that a process holds of it, of its gradient, and of its optimizer state."""
    parallel = config.parallel
    cut = 3 if parallel.is_sharded else parallel.stage_of_zero if parallel.is_zero else 0
    own = [1 / parallel.shards if cut >= stage else 1.0 for stage in (3, 2, 1)]  # as ZeRO numbers what is cut
    return 4 * own[0], 4 * own[1], STATE[config.optimizer] * own[2]


def check_fits(config: PretrainConfig, vocab_size: int, memory: float, needed: float | None = None) -> None:
    """Raise UserError, with what would fit, where a process of the run takes more memory than there is.

    `needed` is what was measured; without it only what surely cannot fit is refused.
    """
    takes = least_memory(config, vocab_size) if needed is None else needed
    if takes <= memory:
        return
    factor = 1.0 if needed is None else takes / estimate(config, vocab_size)
    fitting = (told for told, other in _smaller(config) if factor * estimate(other, vocab_size) <= memory)
    remedy = next(fitting, "take a machine with more memory")
    least = "at least " if needed is None else ""
    raise UserError(
        f"pretrain: size {config.size!r} with micro_batch {config.micro_batch} of {config.sequence_length:,} tokens "
        f"takes {least}{takes / 2**30:,.1f} GiB and this machine has {memory / 2**30:,.1f}; {remedy}"
    )


def _smaller(config: PretrainConfig) -> Iterator[tuple[str, PretrainConfig]]:
    """Yield what would take less memory, from what changes least on."""
    rows = rows_at_once(config) // 2
    while rows:
        yield f"set pretrain.micro_batch to {rows}", config.model_copy(update={"micro_batch": rows})
        rows //= 2
    sparing = config.model_copy(update={"micro_batch": 1, "activation_checkpointing": True})
    yield "set pretrain.micro_batch to 1 and pretrain.activation_checkpointing to true", sparing
    if config.device == "cuda":
        for processes in (2, 4, 8):
            spread = config.parallel.model_copy(update={"processes": processes, "data_parallel_shard_degree": -1})
            told = f"set pretrain.parallel.processes to {processes}, a GPU each, which share weights and state"
            yield told, sparing.model_copy(update={"parallel": spread})
    for name, size in sorted(SIZES.items(), key=lambda item: -item[1].n_layer * item[1].d_model ** 2):
        if size.n_layer * size.d_model**2 < SIZES[config.size].n_layer * SIZES[config.size].d_model ** 2:
            yield f"set pretrain.size to {name!r}", config.model_copy(update={"size": name})
            yield f"set pretrain.size to {name!r} and micro_batch to 1", sparing.model_copy(update={"size": name})
