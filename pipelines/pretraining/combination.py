"""Which settings of pre-training go together, and what may follow it: said before anything starts."""

from pipelines.artifacts.errors import UserError
from pipelines.models.architectures import ARCHITECTURES
from pipelines.models.options import FITTING, PLAIN
from pipelines.pretraining.objectives import OBJECTIVES, SENTINELS, gaps, objective_of
from pipelines.pretraining.pretrain import PretrainConfig
from pipelines.pretraining.spread_combination import check_spread


def check_combination(config: PretrainConfig) -> None:
    """Raise UserError where the architecture cannot do what else is asked."""
    row, objective = ARCHITECTURES[config.architecture], objective_of(config.objective, config.architecture)
    needed = OBJECTIVES[objective].kind
    if row.kind != needed:
        fitting = ", ".join(name for name, other in ARCHITECTURES.items() if other.kind == needed)
        raise UserError(
            f"pretrain.objective: {objective!r} needs a {needed} model and {config.architecture!r} is {row.kind}; "
            f"leave objective empty, or set architecture to one of {fitting}"
        )
    spans = gaps(config.sequence_length, config.mask_share, config.span_length)[1]
    if objective == "span_corruption" and spans > SENTINELS:
        raise UserError(
            f"pretrain.sequence_length: {config.sequence_length:,} tokens lack {spans:,} spans and there are "
            f"{SENTINELS} sentinels; shorten it to {config.sequence_length * SENTINELS // spans:,} or raise span_length"
        )
    if objective not in ("causal", "prefix_lm") and config.document_mask:
        raise UserError(
            "pretrain.document_mask: true is for the objectives 'causal' and 'prefix_lm' and this is "
            f"{objective!r}; set it to false"
        )
    if objective != "causal" and config.attention != "sdpa":
        raise UserError(
            f"pretrain.attention: {config.attention!r} sees only what stands before a token and the objective is "
            f"{objective!r}; set attention to 'sdpa'"
        )
    if objective != "causal" and config.parallel.cuts_model:
        raise UserError(
            "pretrain.parallel: tensor_parallel_degree and pipeline_parallel_degree are for the objective 'causal' and "
            f"this is {objective!r}; set both to 1"
        )
    if objective != "causal" and config.optimizer == "sophia":
        raise UserError(
            f"pretrain.optimizer: 'sophia' draws next tokens from the model and the objective is {objective!r}; set "
            "optimizer to 'adamw'"
        )
    if config.options != PLAIN and config.architecture not in FITTING:
        raise UserError(
            f"pretrain.options: they are made for {' and '.join(FITTING)} and architecture is "
            f"{config.architecture!r}; leave them out, or set architecture to 'llama'"
        )
    if config.options != PLAIN and config.parallel.cuts_model:
        raise UserError(
            "pretrain.options: they are not made for blocks that parallel's tensor_parallel_degree or "
            "pipeline_parallel_degree cuts; leave them out, or set both degrees to 1"
        )
    if config.attention_dropout and not row.attention_dropout:
        raise UserError(
            f"pretrain.attention_dropout: {config.attention_dropout:g} has no effect in {config.architecture!r}; "
            "set it to 0, or architecture to 'llama'"
        )
    if config.compile == "always" and row.experts:
        raise UserError(
            f"pretrain.compile: 'always' hides which experts of {config.architecture!r} are used, which its "
            "load-balance loss reads; set compile to 'never'"
        )
    experts, degree = row.experts.number if row.experts else 1, config.parallel.expert_parallel_degree
    if experts % degree:
        raise UserError(
            f"pretrain.parallel.expert_parallel_degree: {degree} does not divide the {experts} experts in a block of "
            f"{config.architecture!r}; set it to 1"
        )
    check_spread(config)
    if config.dtype == "fp8" and row.biased:
        raise UserError(
            f"pretrain.dtype: 'fp8' is for matrices without biases and those of {config.architecture!r} have them; "
            "set dtype to 'bf16', or architecture to 'llama'"
        )


def check_goes_on(config: PretrainConfig) -> None:
    """Raise UserError where the model goes on to stages that are not made for its architecture or objective."""
    objective = objective_of(config.objective, config.architecture)
    if objective == "prefix_lm":
        raise UserError(
            "pretrain.objective: a model of 'prefix_lm' is trained and scored and goes no further; take the flow "
            "'pretrain', or set objective to 'causal' to fine-tune, align, quantize, package or serve"
        )
    if not ARCHITECTURES[config.architecture].whole_chain:
        raise UserError(
            f"pretrain.architecture: {config.architecture!r} is trained and scored and goes no further; take the flow "
            "'pretrain', or set architecture to 'llama' to fine-tune, align, quantize, package or serve"
        )
