"""What does not go together with sequences that are cut, and with DeepSpeed: said before anything starts."""

from collections.abc import Iterator
from importlib.util import find_spec

from pipelines.artifacts.errors import UserError
from pipelines.models.architectures import ARCHITECTURES
from pipelines.models.options import PLAIN
from pipelines.pretraining.mesh import is_like_llama
from pipelines.pretraining.objectives import objective_of
from pipelines.pretraining.pretrain import PretrainConfig

Refusal = tuple[bool, str, object, str]
"""Whether it holds, and if so the field at fault, its value, and what the field is to be set to."""


def check_spread(config: PretrainConfig) -> None:
    """Raise UserError where cut sequences or DeepSpeed cannot do what else is asked."""
    parallel, kept = config.parallel, ""
    found: Iterator[Refusal] = iter(())
    if parallel.context_parallel_degree > 1:
        kept = f"parallel's context_parallel_degree {parallel.context_parallel_degree} does not go with it"
        found = _against_contexts(config)
    elif parallel.is_zero:
        if find_spec("deepspeed") is None:
            raise UserError(
                "pretrain.parallel.engine: 'deepspeed' needs the package deepspeed; pip install deepspeed, or set it "
                "to 'torch'"
            )
        kept = f"DeepSpeed's ZeRO {parallel.stage_of_zero} is not made for it here"
        found = _against_zero(config)
    for holds, field, value, remedy in found:
        if holds:
            raise UserError(f"pretrain.{field}: {value!r} and {kept}; set it to {remedy}")


def _against_contexts(config: PretrainConfig) -> Iterator[Refusal]:
    row, objective = ARCHITECTURES[config.architecture], objective_of(config.objective, config.architecture)
    yield not is_like_llama(row), "architecture", config.architecture, "'llama' or 'qwen3'"
    yield objective != "causal", "objective", objective, "'causal'"
    yield config.document_mask, "document_mask", True, "false"
    yield config.attention != "sdpa", "attention", config.attention, "'sdpa'"
    yield config.attention_dropout > 0, "attention_dropout", config.attention_dropout, "0"
    yield config.options != PLAIN, "options", "others than Llama's", "what they are without being named"
    yield config.optimizer == "sophia", "optimizer", config.optimizer, "'adamw'"
    yield config.compile == "always", "compile", config.compile, "'never'"


def _against_zero(config: PretrainConfig) -> Iterator[Refusal]:
    row, whole = ARCHITECTURES[config.architecture], config.parallel.stage_of_zero < 3
    yield row.experts is not None, "architecture", config.architecture, "'llama', or parallel's engine to 'torch'"
    yield row.kind != "causal" and not whole, "architecture", config.architecture, "'llama', or zero_stage to 2"
    yield config.objective == "prefix_lm" and not whole, "objective", "prefix_lm", "'causal', or zero_stage to 2"
    yield config.optimizer not in ("adamw", "lion"), "optimizer", config.optimizer, "'adamw' or 'lion'"
    yield config.dtype not in ("fp32", "bf16"), "dtype", config.dtype, "'bf16' or 'fp32'"
    yield config.publish != "last" and not whole, "publish", config.publish, "'last', or zero_stage to 2"
    yield config.compile == "always", "compile", config.compile, "'never'"
