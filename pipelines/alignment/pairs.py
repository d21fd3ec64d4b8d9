"""Preference pairs as ids, and what is measured on the held-out ones."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from pipelines.artifacts.errors import UserError
from pipelines.evaluation.intervals import bootstrap_mean, wilson
from pipelines.evaluation.scores import Score
from pipelines.finetuning.chat import encode_chat, refusal
from pipelines.finetuning.rows import Encoded

_IDS = pa.list_(pa.int32())
WHOLE = pa.schema([("chosen_ids", _IDS), ("rejected_ids", _IDS), ("kind", pa.string())])
PAIR = pa.schema([("prompt_ids", _IDS), *WHOLE])

ROWS_AT_ONCE = 32
"""Sequences measured at once."""


def encode_pair(row: Mapping[str, Any], tokenizer: Any, template: str, length: int) -> Encoded | str:
    """Return the ids of the prompt and of both answers, or the reason why the pair cannot be used."""
    prompt, chosen, rejected = (row.get(name) for name in ("prompt", "chosen", "rejected"))
    for turns, speaker, reason in (
        (prompt, "user", "prompt"),
        (chosen, "assistant", "chosen"),
        (rejected, "assistant", "rejected"),
    ):
        if (
            not isinstance(turns, list)
            or not turns
            or not isinstance(turns[-1], dict)
            or turns[-1].get("role") != speaker
        ):
            return f"no_{reason}"
    assert isinstance(prompt, list) and isinstance(chosen, list) and isinstance(rejected, list)  # noqa: S101
    refused = refusal(prompt + chosen) or refusal(prompt + rejected)
    if refused:
        return refused
    if chosen == rejected:
        return "equal_answers"
    start, _ = encode_chat(tokenizer, prompt, template, add_generation_prompt=True)
    whole = [encode_chat(tokenizer, prompt + answer, template)[0] for answer in (chosen, rejected)]
    if any(ids[: len(start)] != start for ids in whole):
        raise UserError("template: a prompt renders otherwise once it is answered; make it render the same")
    if max(map(len, whole)) > length:
        return "too_long"
    kind = row.get("kind", "given")
    return {
        "prompt_ids": start,
        "chosen_ids": whole[0][len(start) :],
        "rejected_ids": whole[1][len(start) :],
        "kind": kind if isinstance(kind, str) else "given",
    }


def encode_whole(row: Mapping[str, Any], tokenizer: Any, template: str, length: int) -> Encoded | str:
    """Return the ids of both answered conversations, or the reason why the pair cannot be used."""
    pair = encode_pair(row, tokenizer, template, length)
    if isinstance(pair, str):
        return pair
    whole = {name: pair["prompt_ids"] + pair[name] for name in ("chosen_ids", "rejected_ids")}
    return {**whole, "kind": pair["kind"]}


def padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the ids padded on the right, and the attention mask; both `[rows, longest]`."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    return ids, mask


def in_batches(measure: Callable[[list[int]], Tensor], lengths: Sequence[int]) -> list[float]:
    """Return what `measure` gives for each index, taken in batches of like length so that little is padding."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    values = [0.0] * len(lengths)
    with torch.inference_mode():
        for first in range(0, len(order), ROWS_AT_ONCE):
            batch = order[first : first + ROWS_AT_ONCE]
            for index, value in zip(batch, measure(batch).tolist(), strict=True):
                values[index] = float(value)
    return values


def log_likelihoods(
    model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad: int
) -> list[float]:
    """Return the natural logarithm of each answer's probability after its prompt."""

    def measure(batch: list[int]) -> Tensor:
        ids, mask = padded([[*prompts[index], *answers[index]] for index in batch], pad, model.device)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        chosen: Tensor = logits.gather(-1, ids[:, 1:, None]).squeeze(-1) - logits.logsumexp(-1)
        places = torch.arange(1, ids.shape[1], device=ids.device)
        starts = torch.tensor([len(prompts[index]) for index in batch], device=ids.device)
        return (chosen * ((places >= starts[:, None]) & (mask[:, 1:] == 1))).sum(-1)

    return in_batches(measure, [len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)])


def pair_scores(task: str, kinds: Sequence[str], margins: Sequence[float], seed: int) -> Iterator[Score]:
    """Yield accuracy (a tie is half right) and mean margin with their intervals, over all pairs and for each kind."""
    groups = {"": list(margins)}
    for kind in sorted(set(kinds)):
        groups[f".{kind}"] = [margin for margin, own in zip(margins, kinds, strict=True) if own == kind]
    for name, values in groups.items():
        right = sum(1.0 if value > 0 else 0.5 if value == 0 else 0.0 for value in values)
        yield Score(task, f"accuracy{name}", *wilson(right, len(values)), len(values), True)
        yield Score(task, f"margin{name}", *bootstrap_mean(values, seed=seed), len(values), True)
