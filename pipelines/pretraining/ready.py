"""What is checked before a run begins: the machine, the tokenizer, and whose checkpoints lie in the work directory."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipelines.artifacts.code import code_digest
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.key import differences
from pipelines.artifacts.pins import file_digest
from pipelines.artifacts.stage import Stage
from pipelines.models.build import BOS, END, PAD
from pipelines.pretraining.float8 import check_float8
from pipelines.pretraining.settings import LoopConfig
from pipelines.tokens.digest import tokenizer_contract, tokenizer_digest
from pipelines.tokens.loader import TokenShards

logger = logging.getLogger(__name__)

SUMMARIES = ("index.json", "model.safetensors", "train.jsonl")
"""The file that stands for an input: for shards, for a model or a state, for examples."""


def use_machine(config: LoopConfig) -> None:
    """Set the threads and see that the machine can do what is asked; raise UserError where it cannot."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: torch finds no 'cuda' on this machine; set device to 'cpu'")
    if config.dtype == "fp8":
        check_float8(config.device)
    if config.attention_dropout and config.attention != "sdpa":
        raise UserError(
            f"attention_dropout: {config.attention_dropout:g} needs attention 'sdpa' and it is {config.attention!r}; "
            "set attention to 'sdpa' or attention_dropout to 0"
        )
    if config.device == "cpu" and config.dtype == "fp16":
        logger.warning("dtype: a CPU computes fp16 products many times slower than fp32; use it on a GPU")
    if config.device == "cpu" and config.dtype == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        logger.warning("dtype: this CPU has no bf16 products and emulates them many times slower; fp32 is fast on it")
    if config.threads is not None:
        torch.set_num_threads(config.threads)


def check_vocabulary(tokenizer: Path, *splits: TokenShards) -> None:
    """Raise UserError unless this tokenizer made the shards."""
    digest = tokenizer_digest(tokenizer)
    for shards in splits:
        if shards.tokenizer_digest != digest:
            raise UserError(
                f"tokenizer: {shards.folder} was made with tokenizer {shards.tokenizer_digest[:12]} and "
                f"{tokenizer} is {digest[:12]}; give the tokenizer that made the shards"
            )


def check_special_ids(tokenizer: Path) -> None:
    """Raise UserError unless the tokenizer gives the special tokens the ids that models are built with."""
    special = tokenizer_contract(tokenizer)["special"]
    for token, number in (("<|bos|>", BOS), ("<|pad|>", PAD), ("<|end|>", END)):
        if special.get(token) != number:
            raise UserError(
                f"tokenizer: {token} has id {special.get(token)} in {tokenizer} and models expect {number}; "
                "train the tokenizer with the stage `tokenizer`"
            )


def fingerprint(stage: Stage, config: LoopConfig, **inputs: Path | None) -> dict[str, Any]:
    """Return what names a run, so that no checkpoint of another one is taken up: settings, inputs by name, and code."""
    files = {
        name: {item: file_digest(path / item) for item in SUMMARIES if (path / item).is_file()}
        for name, path in inputs.items()
        if path
    }
    return {"config": config.identity(), "inputs": files, "code": code_digest(stage)}


def check_same_run(stage: str, folder: Path, stored: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise UserError, naming each field, where checkpoints are of other settings or data; say so of other code.

    Code that changes what a run means comes with a new version of the stage, whose work lies in a folder of its own.
    """
    parts = ("config", "inputs")
    found = differences({part: stored.get(part, {}) for part in parts}, {part: own[part] for part in parts})
    if found:
        raise UserError(
            f"{stage}: {str(folder)!r} holds checkpoints of other settings or data ({'; '.join(found)}); "
            "name another folder or remove it"
        )
    if stored.get("code") != own["code"]:
        before, now = str(stored.get("code"))[:12], own["code"][:12]
        logger.warning("%s: going on from a checkpoint of other code (%s, now %s)", stage, before, now)
