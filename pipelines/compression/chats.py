"""Conversations packed into sequences of one length, in an order that a seed draws."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.artifacts.stage import Metrics
from pipelines.finetuning.chat import encode_chat, refusal
from pipelines.finetuning.rows import Encoded, Examples
from pipelines.models.build import PAD
from pipelines.pretraining.losses import IGNORED
from pipelines.tokens.permutation import drawn

Packed = NDArray[np.int32]


class PackedChats:
    """Sequences of whole conversations, one after another, padded on the right; what the assistant says is target."""

    def __init__(self, ids: Packed, targets: Packed) -> None:
        self.ids, self.targets = ids, targets

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, start: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of `count` sequences from the global number `start` on, epoch after epoch."""
        return self._rows(drawn(np.arange(start, start + count), len(self), seed=seed))

    def spread(self, count: int) -> tuple[Tensor, Tensor]:
        """Return at most `count` sequences, evenly spread."""
        count = min(count, len(self))
        return self._rows(np.arange(count) * len(self) // count)

    def _rows(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        ids = torch.from_numpy(self.ids[rows].astype(np.int64))
        targets = torch.from_numpy(self.targets[rows].astype(np.int64))
        return ids[:, :-1].contiguous(), targets[:, 1:].contiguous()


def read_chats(path: Path, tokenizer: Any, template: str, sequence_length: int) -> tuple[PackedChats, Metrics]:
    """Return the usable conversations of a JSONL file, packed in order, and the counts `in`, `kept`, `dropped.*`.

    What does not fit into a sequence is dropped, so that no answer is cut.
    """

    def encode(row: Mapping[str, Any]) -> Encoded | str:
        messages = row.get("messages")
        reason = refusal(messages)
        if reason or messages is None:
            return reason or "no_messages"
        ids, mask = encode_chat(tokenizer, messages, template)
        if not any(mask):
            return "no_assistant"
        return "too_long" if len(ids) > sequence_length + 1 else {"ids": ids, "mask": mask}

    examples = Examples(path, encode)
    return pack(examples, sequence_length + 1), examples.metrics()


def pack(examples: Examples, width: int) -> PackedChats:
    """Return the conversations packed greedily, in order, into rows of `width` ids."""
    ids: list[Packed] = []
    targets: list[Packed] = []
    used = width
    for chat in examples:
        said, size = chat["mask"], len(chat["ids"])
        if used + size > width:
            ids.append(np.full(width, PAD, np.int32))
            targets.append(np.full(width, IGNORED, np.int32))
            used = 0
        ids[-1][used : used + size] = chat["ids"]
        targets[-1][used : used + size] = np.where(said, chat["ids"], IGNORED)
        used += size
    empty = np.empty((0, width), np.int32)
    return PackedChats(np.stack(ids) if ids else empty, np.stack(targets) if targets else empty)
