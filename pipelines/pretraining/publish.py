"""Writing a base model so that transformers, and every later stage, can read it."""

import shutil
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from pipelines.finetuning.contract import Contract, stamp
from pipelines.models.build import BOS, END
from pipelines.tokens.digest import copy_tokenizer

transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def publish_base(model: Any, tokenizer: Path, folder: Path) -> Contract:
    """Write the model in fp32 with its tokenizer and stamp its contract."""
    shutil.rmtree(folder, ignore_errors=True)
    model = model.to("cpu")
    if model.can_generate() and not model.config.is_encoder_decoder:
        model.generation_config.eos_token_id = [END, BOS]  # a base model ends a document by opening the next
    model.save_pretrained(folder)
    copy_tokenizer(tokenizer, folder)
    return stamp(folder)
