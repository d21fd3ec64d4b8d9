"""Building a row of the tables of architectures and sizes with transformers' classes."""

from dataclasses import fields
from typing import Any, Literal

from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from pipelines.models.architectures import ARCHITECTURES, Kind
from pipelines.models.attention import register_blockwise
from pipelines.models.options import PLAIN, ModelOptions, initialise
from pipelines.models.sizes import SIZES, SizeName
from pipelines.tokens.special import BOS as BOS_TOKEN
from pipelines.tokens.special import END as END_TOKEN
from pipelines.tokens.special import PAD as PAD_TOKEN
from pipelines.tokens.special import SPECIAL_TOKENS

Attention = Literal["sdpa", "blockwise"]

SPREAD = 0.02
"""Standard deviation of first weights in nearly all of the papers."""

BOS, PAD, END = map(SPECIAL_TOKENS.index, (BOS_TOKEN, PAD_TOKEN, END_TOKEN))
"""Ids of the special tokens that a model's config names; the tokenizer gives them these in every run."""

AUTO: dict[Kind, Any] = {
    "causal": AutoModelForCausalLM,
    "masked": AutoModelForMaskedLM,
    "seq2seq": AutoModelForSeq2SeqLM,
    "blank-filling": AutoModelForCausalLM,
}
"""The class of transformers that builds a model of each kind."""


def build(
    name: SizeName,
    vocab_size: int,
    max_length: int,
    *,
    architecture: str = "llama",
    attention: Attention = "sdpa",
    options: ModelOptions = PLAIN,
) -> Any:
    """Return the model of this size in fp32, its weights drawn from torch's global generator as its paper says."""
    config = model_config(name, vocab_size, max_length, architecture=architecture)
    row = ARCHITECTURES[architecture]
    model = AUTO[row.kind].from_config(options.applied(config), attn_implementation=attention)
    if row.truncated:
        for weight in model.parameters():
            if weight.ndim > 1:
                nn.init.trunc_normal_(weight, std=SPREAD, a=-2 * SPREAD, b=2 * SPREAD)
    return initialise(model, options)


def model_config(name: SizeName, vocab_size: int, max_length: int, *, architecture: str = "llama") -> Any:
    """Return transformers' config of this size; what a type of model has no setting for is left out."""
    register_blockwise()
    row, size = ARCHITECTURES[architecture], SIZES[name]
    config_class: Any = CONFIG_MAPPING[row.model_type]
    common = {
        "vocab_size": vocab_size,
        "hidden_size": size.d_model,
        "intermediate_size": row.d_ff(size),
        "num_hidden_layers": size.n_layer,
        "num_attention_heads": size.n_head,
        "num_key_value_heads": size.n_kv_head if row.grouped else size.n_head,
        "head_dim": size.head_dim,
        "max_position_embeddings": max_length,
        "tie_word_embeddings": True,
        "bos_token_id": BOS,
        "pad_token_id": PAD,
        "eos_token_id": END,
        "initializer_range": SPREAD,
        "dtype": "float32",
    }
    known = {field.name for field in fields(config_class)} | set(config_class.attribute_map)
    settings = {setting: value for setting, value in common.items() if setting in known}
    config: Any = config_class(**{**settings, **row.settings(size)})
    if "max_position_embeddings" not in known:  # T5 reads any length; what it learnt from is said by the older name
        config.n_positions = max_length
    return config
