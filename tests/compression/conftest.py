"""A tiny model and its held-out tokens."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipelines.finetuning.contract import stamp
from pipelines.tokens.digest import tokenizer_digest

SPECIAL = ["<|bos|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]


@dataclass
class Source:
    """What the stage reads."""

    model: Path
    heldout: Path


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A model whose layers are no multiple of any block size, with 2,000 held-out tokens."""
    folder = tmp_path_factory.mktemp("source")
    model = folder / "model"
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(["the mill grinds wheat"], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|bos|>", eos_token="<|end|>", pad_token="<|pad|>"
    )
    tokenizer.save_pretrained(model)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=36,
        intermediate_size=52,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        max_position_embeddings=64,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=5,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(model)
    (model / "chat_template.jinja").write_text("<|bos|>{{ messages[0]['content'] }}")
    stamp(model)
    heldout = folder / "heldout"
    heldout.mkdir()
    ids = np.random.default_rng(0).integers(6, len(tokenizer), 2_000).astype("<u2")
    (heldout / "shard-00000.bin").write_bytes(ids.tobytes())
    index = {
        "dtype": "uint16",
        "tokens": len(ids),
        "bytes": 2_000,
        "documents": 1,
        "vocab_size": len(tokenizer),
        "tokenizer_digest": tokenizer_digest(model),
        "shards": [{"file": "shard-00000.bin", "tokens": len(ids)}],
    }
    (heldout / "index.json").write_text(json.dumps(index))
    return Source(model, heldout)
