"""The cheap changes of architecture and first weights that small models of today use, each an option.

Every choice is one that transformers' own classes express, so a published model is read without our code.
"""

import math
from typing import Any, Literal

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import StageConfig

OUTPUTS = ("o_proj.weight", "down_proj.weight")
"""The matrices by which a block adds to the residual stream."""


class ModelOptions(StageConfig):
    """What differs from Llama's architecture and first weights; the defaults differ in nothing."""

    model_config = ConfigDict(title="Architecture options")

    tied: bool = Field(True, description="One table for the vocabulary's input and output vectors, instead of two.")
    activation: Literal["silu", "relu2", "gelu"] = Field(
        "silu", description="Of the gate of a block's feed-forward part; relu2 is the square of the positive part."
    )
    zero_outputs: bool = Field(
        False, description="Blocks add nothing at first: the matrices by which they would begin at zero."
    )
    matrix_std: Literal["fixed", "fan_in"] = Field(
        "fixed", description="First matrices have a deviation of 0.02, or that which keeps the size of their input."
    )
    embedding_std: float = Field(0.02, gt=0, le=10, description="Deviation of the first input vectors.")
    unembedding_std: float = Field(0.02, ge=0, le=10, description="Deviation of the first output vectors, if untied.")

    def applied(self, config: Any) -> Any:
        """Return transformers' config with the architecture that the options ask for."""
        if not self.tied:
            config.tie_word_embeddings = False
        if self.activation != "silu":
            config.hidden_act = self.activation
        return config


PLAIN = ModelOptions()
FITTING = ("llama", "qwen3")
"""Architectures that the options are made for."""


def initialise(model: Any, options: ModelOptions) -> Any:
    """Return the model, its first weights drawn again from torch's global generator where they are to be others."""
    if options == PLAIN:
        return model
    for name, weight in model.named_parameters():
        if weight.ndim != 2:
            continue
        if ".layers." not in name:
            _draw_table(name.startswith("lm_head."), weight.detach(), options)
        elif options.zero_outputs and name.endswith(OUTPUTS):
            weight.detach().zero_()
        elif options.matrix_std == "fan_in":
            # Yang et al., "A spectral condition for feature learning" (2023)
            rows, columns = weight.shape
            weight.detach().normal_(0, min(1.0, math.sqrt(rows / columns)) / math.sqrt(columns))
    return model


def _draw_table(is_output: bool, table: Any, options: ModelOptions) -> None:
    deviation = options.unembedding_std if is_output else options.embedding_std
    if deviation != PLAIN.embedding_std:
        table.normal_(0, deviation)
