"""Token shards that hold nothing but chance, and a tokenizer of their vocabulary: what a measurement trains on."""

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from pipelines.artifacts.pins import file_digest
from pipelines.tokens.digest import tokenizer_digest
from pipelines.tokens.special import BOS, END, PAD, SPECIAL_TOKENS

DOCUMENT_TOKENS = 500
"""How far documents' beginnings are apart."""


def write_inputs(folder: Path, vocab_size: int, *, train: int, heldout: int) -> dict[str, Path]:
    """Write a tokenizer and two splits of so many tokens; return the inputs of the stage `pretrain`."""
    _write_tokenizer(folder / "tokenizer", vocab_size)
    for seed, (name, tokens) in enumerate((("train", train), ("heldout", heldout))):
        _write_split(folder / name, tokens, vocab_size, folder / "tokenizer", seed)
    return {name: folder / name for name in ("train", "heldout", "tokenizer")}


def _write_tokenizer(folder: Path, vocab_size: int) -> None:
    folder.mkdir(parents=True)
    known = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens = known + [f"token{number}" for number in range(vocab_size - len(known))]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": BOS, "pad_token": PAD, "eos_token": END}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _write_split(folder: Path, tokens: int, vocab_size: int, tokenizer: Path, seed: int) -> None:
    folder.mkdir()
    dtype = "uint16" if vocab_size <= 1 << 16 else "uint32"
    ids = np.random.default_rng(seed).integers(len(SPECIAL_TOKENS), vocab_size, tokens, dtype=dtype)
    ids[::DOCUMENT_TOKENS] = SPECIAL_TOKENS.index(BOS)
    shard = folder / "shard-00000.bin"
    ids.tofile(shard)
    index = {
        "dtype": dtype,
        "tokens": tokens,
        "bytes": tokens,
        "documents": -(-tokens // DOCUMENT_TOKENS),
        "vocab_size": vocab_size,
        "tokenizer_digest": tokenizer_digest(tokenizer),
        "shards": [{"file": shard.name, "tokens": tokens, "sha256": file_digest(shard)}],
    }
    (folder / "index.json").write_text(json.dumps(index))
