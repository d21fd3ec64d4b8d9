"""Which settings of pre-training go together, and what may follow it: said before anything starts."""

from pipelines.artifacts.errors import UserError
from pipelines.models.architectures import ARCHITECTURES
from pipelines.pretraining.pretrain import PretrainConfig


def check_combination(config: PretrainConfig) -> None:
    """Raise UserError where the architecture cannot do what else is asked."""
    row = ARCHITECTURES[config.architecture]
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
    if config.dtype == "fp8" and row.biased:
        raise UserError(
            f"pretrain.dtype: 'fp8' is for matrices without biases and those of {config.architecture!r} have them; "
            "set dtype to 'bf16', or architecture to 'llama'"
        )


def check_goes_on(config: PretrainConfig) -> None:
    """Raise UserError where the model goes on to stages that are not made for its architecture."""
    if not ARCHITECTURES[config.architecture].whole_chain:
        raise UserError(
            f"pretrain.architecture: {config.architecture!r} is trained and scored and goes no further; take the flow "
            "'pretrain', or set architecture to 'llama' to fine-tune, align, quantize, package or serve"
        )
