"""Loading a model that obeys its contract, and writing one that will."""

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from pipelines.artifacts.errors import UserError
from pipelines.finetuning.contract import TEMPLATE_FILE, Contract, check, stamp
from pipelines.tokens.digest import copy_tokenizer

transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
logging.getLogger("transformers").setLevel(logging.ERROR)


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a folder; raise UserError where it names no token for padding or for the end."""
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    for kind in ("pad_token", "eos_token"):
        if getattr(tokenizer, kind) is None:
            raise UserError(f"{folder / 'tokenizer_config.json'}: there is no {kind}; name one of the special tokens")
    return tokenizer


def read_template(folder: Path) -> str:
    """Return the chat template of a model or of a template artifact."""
    try:
        return (folder / TEMPLATE_FILE).read_bytes().decode()
    except FileNotFoundError:
        raise UserError(f"{folder}: there is no {TEMPLATE_FILE}; name a model that went through sft") from None


def chat_length(folder: Path, asked: int | None) -> int:
    """Return the longest conversation in tokens that a model of this folder is to read; check its contract."""
    contract = check(folder)
    if asked is not None and asked > contract.max_length:
        raise UserError(f"max_length: {asked:,} is more than the model's {contract.max_length:,}; make it shorter")
    return asked or contract.max_length


def publish(model: Any, tokenizer: Any, source: Path, template: str, folder: Path) -> Contract:
    """Write `model` with the tokenizer of `source` and the template into `folder`, and stamp its contract."""
    shutil.rmtree(folder, ignore_errors=True)
    model.config.bos_token_id = tokenizer.bos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.use_cache = True
    if model.can_generate():
        ends = [token for token in (tokenizer.eos_token_id, tokenizer.bos_token_id) if token is not None]
        model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=list(dict.fromkeys(ends)),  # the base model opens its next document with bos
        )
    model.to("cpu", torch.float32).save_pretrained(folder)
    copy_tokenizer(source, folder)
    (folder / TEMPLATE_FILE).write_text(template, encoding="utf-8", newline="\n")
    return stamp(folder)
