"""Building a row of the table of sizes with transformers' Llama classes."""

from typing import Literal

from transformers import LlamaConfig, LlamaForCausalLM

from pipelines.models.attention import register_blockwise
from pipelines.models.options import PLAIN, ModelOptions, initialise
from pipelines.models.sizes import SIZES, SizeName
from pipelines.tokens.special import BOS as BOS_TOKEN
from pipelines.tokens.special import END as END_TOKEN
from pipelines.tokens.special import PAD as PAD_TOKEN
from pipelines.tokens.special import SPECIAL_TOKENS

Attention = Literal["sdpa", "blockwise"]

BOS, PAD, END = map(SPECIAL_TOKENS.index, (BOS_TOKEN, PAD_TOKEN, END_TOKEN))
"""Ids of the special tokens that a model's config names; the tokenizer gives them these in every run."""


def build(
    name: SizeName,
    vocab_size: int,
    max_length: int,
    *,
    attention: Attention = "sdpa",
    options: ModelOptions = PLAIN,
) -> LlamaForCausalLM:
    """Return the model of this size in fp32, its weights drawn from torch's global generator."""
    config = llama_config(name, vocab_size, max_length, options)
    config._attn_implementation = attention
    model = LlamaForCausalLM(config)
    initialise(model, options)
    return model


def llama_config(name: SizeName, vocab_size: int, max_length: int, options: ModelOptions = PLAIN) -> LlamaConfig:
    """Return transformers' config of this size."""
    register_blockwise()
    row = SIZES[name]
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=row.d_model,
        intermediate_size=row.d_ff,
        num_hidden_layers=row.n_layer,
        num_attention_heads=row.n_head,
        num_key_value_heads=row.n_kv_head,
        head_dim=row.head_dim,
        max_position_embeddings=max_length,
        tie_word_embeddings=options.tied,
        hidden_act=options.activation,
        bos_token_id=BOS,
        pad_token_id=PAD,
        eos_token_id=END,
        dtype="float32",
    )
