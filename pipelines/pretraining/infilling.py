"""Blank infilling: spans behind what is left of a text, written token by token (Du et al., "GLM", 2022, section 2.1).

Each token has two positions: that of its span's mask in what is left, and its own in the span. Vectors of the second
stand in the vocabulary's table, and transformers' GPT-2 adds them to a token's as its type.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.models.parts import output_vectors
from pipelines.pretraining.corruption import Windows, uniform
from pipelines.pretraining.losses import IGNORED, PAD, summed_cross_entropy, vocabulary_loss
from pipelines.pretraining.objectives import INNER_PLACES
from pipelines.pretraining.prefix import prefix_mask
from pipelines.pretraining.spans import END, NOWHERE, Bools, Floats, SpanNoise, numbered, packed
from pipelines.tokens.permutation import Integers


@dataclass(frozen=True)
class Blanks:
    """Leaves a mask in the place of each span; behind the text comes each span, from a start to an end.

    Behind the tokenizer's ids are those of mask and start, and of the places in a span: 0 is that of a token that is
    left, 1 a start's.
    """

    first_id: int

    def __call__(self, ids: Integers, hidden: Bools, order: Floats | None = None) -> Windows:
        """Return inputs, `[rows, 3, tokens]`: ids and both positions, and targets; the spans come in an order."""
        starts, numbers = numbered(hidden)
        places = np.arange(ids.shape[1])
        kept = (ids != PAD) & (~hidden | starts)
        mask, start, inner = self.first_id, self.first_id + 1, self.first_id + 2
        ranks = numbers if order is None else np.take_along_axis(order.argsort(1).argsort(1), numbers.clip(0), 1)
        behind = len(places) * (1 + 2 * ranks)
        within = places - np.maximum.accumulate(np.where(starts, places, 0), 1)
        outer = kept.cumsum(1) - 1
        goes_on = np.pad(hidden & ~starts, ((0, 0), (0, 1)))[:, 1:]
        keys = self._beside(np.where(kept, places, NOWHERE), np.where(starts, behind, NOWHERE),
                            np.where(hidden, behind + 1 + within, NOWHERE))  # fmt: skip
        shown = self._beside(np.where(hidden, mask, ids), np.full_like(ids, start), ids)
        inside = self._beside(np.zeros_like(ids), np.ones_like(ids), (within + 2).clip(max=INNER_PLACES - 1)) + inner
        asked = self._beside(np.full_like(ids, IGNORED), ids, np.where(goes_on, np.roll(ids, -1, 1), END))
        inputs = [packed(keys, shown, PAD), packed(keys, self._beside(outer, outer, outer), 0),
                  packed(keys, inside, inner)]  # fmt: skip
        return torch.from_numpy(np.stack(inputs, 1)), torch.from_numpy(packed(keys, asked, IGNORED))

    def _beside(self, left: Integers, starts: Integers, written: Integers) -> Integers:
        """Return what stands for a token where it is left, for the start of its span, and where it is written."""
        return np.concatenate([left, starts, written], 1)

    def tokens(self, batch: Windows) -> int:
        """Return how many tokens of text a batch has: all but the masks and as many starts."""
        ids = batch[0][:, 0]
        return int((ids != PAD).sum() - 2 * (ids == self.first_id).sum())


@dataclass(frozen=True)
class BlankedSpans:
    """Leaves spans out of windows, to be written in an order that is drawn as well."""

    spans: SpanNoise
    blanks: Blanks

    def __call__(self, windows: Windows, first: int) -> Windows:
        """Return what is left and what is written behind it, and what is to be written next."""
        ids = windows[0].numpy()
        order = uniform(self.spans.seed, np.arange(first, first + len(ids)), ids.shape[1], 2)
        return self.blanks(ids, self.spans(ids, first), order)

    def tokens(self, batch: Windows) -> int:
        """Return how many tokens were read."""
        return self.blanks.tokens(batch)


def infilled(model: Any, inputs_B3S: Tensor, targets_BS: Tensor) -> Tensor:
    """Return the last states, `[batch, tokens, width]`: what is left sees itself, what is written all before it."""
    ids_BS, outer_BS, inner_BS = inputs_B3S.unbind(1)
    left_B = (targets_BS != IGNORED).int().argmax(1)
    states: Tensor = model.base_model(
        input_ids=ids_BS,
        position_ids=outer_BS,
        token_type_ids=inner_BS,
        attention_mask=prefix_mask(model.config, left_B, ids_BS.shape[1]),
        use_cache=False,
    ).last_hidden_state
    return states


def infilling_cross_entropy(model: Any, inputs_B3S: Tensor, targets_BS: Tensor) -> Tensor:
    """Return the cross-entropy of what is written, summed; scores are computed for that alone."""
    chosen_BS = targets_BS != IGNORED
    states_NE = infilled(model, inputs_B3S, targets_BS)[chosen_BS]
    return vocabulary_loss(states_NE, output_vectors(model), summed_cross_entropy, targets_BS[chosen_BS])
