"""A two-layer Llama with a small tokenizer, examples for it, and runs of a stage that are killed on the way."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipelines.artifacts.pins import file_digest
from pipelines.artifacts.work import PROGRESS
from pipelines.finetuning.chat import default_template
from pipelines.finetuning.contract import stamp

SPECIAL = ["<|bos|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
WORDS = [
    "the",
    "mill",
    "grinds",
    "wheat",
    "into",
    "flour",
    "while",
    "water",
    "turns",
    "a",
    "wheel",
    "and",
    "stones",
    "sing",
    "low",
]


def build_model(folder: Path, *, template: str | None = None, max_length: int = 64) -> Path:
    """Write a model with 64 positions, a tokenizer of bytes and a few merges, and its contract."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([" ".join(WORDS), *WORDS], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|bos|>", eos_token="<|end|>", pad_token="<|pad|>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=max_length,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=5,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    stamp(folder)
    return folder


def user(text: str) -> dict[str, str]:
    """Return a user's turn."""
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    """Return an assistant's turn."""
    return {"role": "assistant", "content": text}


def write_rows(path: Path, rows: list[Any]) -> Path:
    """Write one JSON value a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_instructions(folder: Path) -> Path:
    """Write conversations whose answer is the first word of the question, twice."""
    draw = random.Random(0)
    for name, size in (("train", 60), ("heldout", 12)):
        asked = [draw.choices(WORDS, k=5) for _ in range(size)]
        rows = [{"messages": [user(" ".join(words)), assistant(f"{words[0]} {words[0]}")]} for words in asked]
        write_rows(folder / f"{name}.jsonl", rows)
    return folder


def write_preferences(folder: Path) -> Path:
    """Write pairs whose chosen answer sings and whose rejected answer grinds, of two kinds."""
    draw = random.Random(1)
    for name, size in (("train", 60), ("heldout", 20)):
        rows = [
            {
                "prompt": [user(" ".join(draw.choices(WORDS, k=4)))],
                "chosen": [assistant("sing " + draw.choice(WORDS))],
                "rejected": [assistant("grinds " + draw.choice(WORDS))],
                "kind": ("cut", "swapped")[number % 2],
            }
            for number in range(size)
        ]
        write_rows(folder / f"{name}.jsonl", rows)
    return folder


def write_template(folder: Path) -> Path:
    """Write the chat template that ships as an artifact's output."""
    folder.mkdir()
    (folder / "chat_template.jinja").write_text(default_template())
    return folder


def digests(out: Path) -> dict[str, str]:
    """Return the digest of every file that would be published."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and PROGRESS not in path.parts)
    return {str(path.relative_to(out)): file_digest(path) for path in files}


def run_and_kill(stage: str, config: dict[str, Any], inputs: dict[str, Path], folder: Path) -> tuple[Path, Path, int]:
    """Run a stage undisturbed, and again with kills on the way; return both outputs and how many kills there were.

    Both happen in one process that imports the libraries once and forks for each attempt.
    """
    names = {name: str(path) for name, path in inputs.items()}
    spec = {"stage": stage, "config": config, "inputs": names, "folder": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.finetuning.killed", json.dumps(spec)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "whole", folder / "killed", int(done.stdout.split()[-1])
