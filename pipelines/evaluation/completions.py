"""Samples of a model's text: greedy completions of prompts that it was not trained on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pipelines.artifacts.progress import track
from pipelines.artifacts.work import atomic_file
from pipelines.evaluation.harness import LocalLM
from pipelines.finetuning.chat import encode_chat
from pipelines.finetuning.contract import TEMPLATE_FILE

PROMPT_WORDS = 12


def opening(text: str) -> str:
    """Return the first words of a document: enough to show what it is about."""
    return " ".join(text.split()[:PROMPT_WORDS])


def chat_template(model: Path) -> str | None:
    """Return the model's chat template, or None for a base model."""
    path = model / TEMPLATE_FILE
    return path.read_text(encoding="utf-8") if path.is_file() else None


def prompt_ids_of(lm: LocalLM, prompt: str, template: str | None, max_tokens: int) -> list[int]:
    """Return the ids of a prompt with room for `max_tokens` after it, as a user's turn where the model chats."""
    if template is None:
        ids = lm.tok_encode(prompt)
    else:
        turn = {"role": "user", "content": prompt}
        ids, _ = encode_chat(lm.tokenizer, [turn], template, add_generation_prompt=True)
    return ids[: max(1, lm.max_length - max_tokens)]


@torch.inference_mode()
def complete(lm: LocalLM, prompt: str, template: str | None, max_tokens: int) -> str:
    """Return what the model writes after `prompt`, the likeliest token each time; a chat model answers it."""
    ids = prompt_ids_of(lm, prompt, template, max_tokens)
    prompt_ids = torch.tensor([ids], device=lm.device)
    written: Any = lm.model.generate(
        prompt_ids,
        attention_mask=torch.ones_like(prompt_ids),
        do_sample=False,
        max_new_tokens=max_tokens,
        pad_token_id=lm.tokenizer.pad_token_id,
    )
    text: str = lm.tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True)
    return text


def write_samples(
    path: Path, out: Path, lm: LocalLM, prompts: Sequence[str], template: str | None, max_tokens: int
) -> None:
    """Write a line of prompt and completion for each prompt."""
    with atomic_file(path, out) as fresh, fresh.open("w", encoding="utf-8") as file:
        for prompt in track(prompts, "sample", total=len(prompts), unit="texts"):
            completion = complete(lm, prompt, template, max_tokens)
            file.write(json.dumps({"prompt": prompt, "completion": completion}, ensure_ascii=False) + "\n")
