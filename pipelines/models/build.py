"""Building a row of the tables of architectures and sizes with transformers' classes."""

from dataclasses import fields
from typing import Any, Literal

from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig

from pipelines.models.architectures import ARCHITECTURES
from pipelines.models.attention import register_blockwise
from pipelines.models.sizes import SIZES, SizeName
from pipelines.tokens.special import BOS as BOS_TOKEN
from pipelines.tokens.special import END as END_TOKEN
from pipelines.tokens.special import PAD as PAD_TOKEN
from pipelines.tokens.special import SPECIAL_TOKENS

Attention = Literal["sdpa", "blockwise"]

BOS, PAD, END = map(SPECIAL_TOKENS.index, (BOS_TOKEN, PAD_TOKEN, END_TOKEN))
"""Ids of the special tokens that a model's config names; the tokenizer gives them these in every run."""

AUTO = {"causal": AutoModelForCausalLM}
"""The class of transformers that builds a model of each kind."""


def build(
    name: SizeName, vocab_size: int, max_length: int, *, architecture: str = "llama", attention: Attention = "sdpa"
) -> Any:
    """Return the model of this size in fp32, its weights drawn from torch's global generator as its paper says."""
    config = model_config(name, vocab_size, max_length, architecture=architecture)
    return AUTO[ARCHITECTURES[architecture].kind].from_config(config, attn_implementation=attention)


def model_config(name: SizeName, vocab_size: int, max_length: int, *, architecture: str = "llama") -> PreTrainedConfig:
    """Return transformers' config of this size; what a type of model has no setting for is left out."""
    register_blockwise()
    row, size = ARCHITECTURES[architecture], SIZES[name]
    config_class = CONFIG_MAPPING[row.model_type]
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
        "dtype": "float32",
    }
    known = {field.name for field in fields(config_class)} | set(config_class.attribute_map)
    settings = {setting: value for setting, value in common.items() if setting in known}
    config: PreTrainedConfig = config_class(**settings, **row.settings(size))
    return config
