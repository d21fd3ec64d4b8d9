"""Loss, perplexity, bits per byte and token accuracy on a fixed set of held-out windows."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.artifacts.curve import Row
from pipelines.artifacts.errors import UserError
from pipelines.models.parts import output_vectors
from pipelines.pretraining.corruption import Corruption
from pipelines.pretraining.losses import CHUNK, IGNORED, summed_cross_entropy
from pipelines.tokens.digest import tokenizer_contract
from pipelines.tokens.loader import TokenShards
from pipelines.tokens.positions import document_positions

Loss = Callable[[Any, Tensor, Tensor], Tensor]
"""Returns the cross-entropy of a model, inputs and targets, summed over the targets that count."""

LARGEST_EXPONENT = 700.0
"""Beyond it a perplexity is no double."""


class Heldout:
    """`count` windows, evenly spread over the split, the same at every measurement."""

    def __init__(
        self,
        shards: TokenShards,
        tokenizer: Path,
        sequence_length: int,
        *,
        count: int,
        rows: int,
        document_mask: bool = False,
    ) -> None:
        if shards.tokens < 2:
            raise UserError(f"heldout: {shards.folder} has no token to predict; hold out more documents")
        windows = (shards.tokens - 1) // sequence_length
        self.count, self.rows, self.document_mask = min(count, windows), rows, document_mask
        self.length = min(sequence_length, shards.tokens - 1)
        starts = [number * windows // self.count * sequence_length for number in range(self.count)] or [0]
        ids = [torch.from_numpy(shards.window(start, self.length + 1).astype("int64")) for start in starts]
        self.ids_BS = torch.stack(ids)
        self.bytes = int(token_sizes(tokenizer)[self.ids_BS[:, 1:]].sum())

    def measure(self, model: Any) -> Row:
        """Return the mean cross-entropy in nats a token, its exponential, and the bits a byte of the targets' text.

        What the model pays for the marks between documents counts in all; they have no bytes. Accuracy is the share of
        targets that are the model's first choice.
        """
        device = output_vectors(model).device
        total = right = 0.0
        for ids in torch.split(self.ids_BS, self.rows):
            inputs, targets = ids[:, :-1].to(device), ids[:, 1:].to(device)
            positions = document_positions(inputs) if self.document_mask else None
            part, guessed = scored(model, inputs, targets, positions)
            total, right = total + part, right + guessed
        count = self.ids_BS[:, 1:].numel()
        return {
            "heldout_loss": total / count,
            "heldout_perplexity": math.exp(min(total / count, LARGEST_EXPONENT)),
            "heldout_bits_per_byte": total / math.log(2) / max(self.bytes, 1),
            "heldout_accuracy": right / count,
        }


class CorruptedHeldout:
    """The same windows with something left out, the same at every measurement."""

    def __init__(self, heldout: Heldout, corruption: Corruption, loss: Loss) -> None:
        self.rows, self.loss = heldout.rows, loss
        self.inputs, self.targets = corruption((heldout.ids_BS[:, :-1], heldout.ids_BS[:, 1:]), 0)
        self.count = int((self.targets != IGNORED).sum())
        if not self.count:
            raise UserError("heldout: nothing is left out of its windows to predict; hold out more documents")

    def measure(self, model: Any) -> Row:
        """Return the mean cross-entropy in nats of what was left out, and its exponential."""
        device = output_vectors(model).device
        total = 0.0
        for inputs, targets in zip(
            *(torch.split(part, self.rows) for part in (self.inputs, self.targets)), strict=True
        ):
            total += float(self.loss(model, inputs.to(device), targets.to(device)))
        mean = total / self.count
        return {"heldout_loss": mean, "heldout_perplexity": math.exp(min(mean, LARGEST_EXPONENT))}


def scored(model: Any, inputs_BS: Tensor, targets_BS: Tensor, positions_BS: Tensor | None) -> tuple[float, int]:
    """Return the summed cross-entropy of the targets and how many of them the model puts first, chunk by chunk."""
    hidden = model.base_model(input_ids=inputs_BS, position_ids=positions_BS, use_cache=False).last_hidden_state
    hidden = hidden.flatten(0, 1)
    total, right = 0.0, 0
    for part, targets in zip(torch.split(hidden, CHUNK), torch.split(targets_BS.flatten(), CHUNK), strict=True):
        logits = F.linear(part, output_vectors(model))
        total += float(summed_cross_entropy(logits, targets))
        right += int((logits.argmax(-1) == targets).sum())
    return total, right


def token_sizes(tokenizer: Path) -> Tensor:
    """Return how many bytes of text each id stands for: a byte-level token has a character a byte, a special none."""
    contract = tokenizer_contract(tokenizer)
    ids = [*contract["vocabulary"].values(), *contract["special"].values()]
    sizes = torch.zeros(max(ids) + 1, dtype=torch.int64)
    for token, number in contract["vocabulary"].items():
        sizes[number] = len(token)
    sizes[list(contract["special"].values())] = 0
    return sizes
