"""A tiny model, its tokenizer, the shards of some sentences and questions about them: what `evaluate` reads."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipelines.evaluation.surroundings import quiet
from pipelines.finetuning.contract import stamp
from pipelines.tokens.digest import tokenizer_digest

SPECIALS = ["<|bos|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
SENTENCE = "the model reads a café and writes — naïve text of bytes, while every old clock turns slowly: 日本 <|end|>"


@dataclass(frozen=True)
class Workbench:
    """The folders that a stage would get from the store, and the texts behind them."""

    model: Path
    train: Path
    heldout: Path
    questions: Path
    train_texts: list[str]
    heldout_texts: list[str]


def sentences(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(SENTENCE.split(), k=draw.randint(3, 100))) + "." for _ in range(count)]


def train_tokenizer(texts: list[str], folder: Path) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=320, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|bos|>", pad_token="<|pad|>", eos_token="<|end|>"
    )
    fast.save_pretrained(str(folder))
    return fast


def build_model(folder: Path, vocab_size: int) -> None:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=5,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    with quiet():
        LlamaForCausalLM(config).save_pretrained(str(folder))


def write_shards(folder: Path, texts: list[str], tokenizer: PreTrainedTokenizerFast, digest: str) -> None:
    folder.mkdir(parents=True)
    ids, spans = [], []
    for place, text in enumerate(texts):
        own = [0, *tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]]
        spans.append({"document_id": f"{(place * 7919) % 100_003:032x}", "start": len(ids), "length": len(own)})
        ids += own
    np.array(ids, "<u2").tofile(folder / "shard-00000.bin")
    pq.write_table(pa.Table.from_pylist(spans), folder / "spans.parquet")
    index = {
        "dtype": "uint16",
        "tokens": len(ids),
        "bytes": sum(len(text.encode()) for text in texts),
        "documents": len(texts),
        "vocab_size": len(tokenizer),
        "tokenizer_digest": digest,
        "shards": [{"file": "shard-00000.bin", "tokens": len(ids)}],
    }
    (folder / "index.json").write_text(json.dumps(index))


def write_questions(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, count in (("dev", 5), ("test", 24)):
        rows = [
            {
                "id": f"{name}-{place}",
                "question": f"Which of these describes the function f{place}?",
                "choices": [f"Return {place + step}." for step in range(4)],
                "answer": place % 4,
                "subject": "toy",
            }
            for place in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def build_workbench(root: Path) -> Workbench:
    """Write a tiny model, shards and questions below `root`."""
    train_texts, heldout_texts = sentences(200, 1), sentences(30, 2)
    tokenizer = train_tokenizer(train_texts, root / "model")
    build_model(root / "model", len(tokenizer))
    stamp(root / "model")
    digest = tokenizer_digest(root / "model")
    write_shards(root / "shards/train", train_texts, tokenizer, digest)
    write_shards(root / "shards/heldout", heldout_texts, tokenizer, digest)
    write_questions(root / "questions")
    return Workbench(
        root / "model", root / "shards/train", root / "shards/heldout", root / "questions", train_texts, heldout_texts
    )
