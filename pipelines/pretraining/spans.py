"""Spans that are left out of windows of tokens, and how they are asked for again, by array arithmetic alone.

Which tokens are left out is a pure function of the seed and the window's global number alone.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.pretraining.corruption import Windows, uniform
from pipelines.pretraining.losses import IGNORED, PAD
from pipelines.pretraining.objectives import gaps
from pipelines.tokens.permutation import Integers
from pipelines.tokens.special import END as END_TOKEN
from pipelines.tokens.special import SPECIAL_TOKENS

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

END = SPECIAL_TOKENS.index(END_TOKEN)
NOWHERE = np.iinfo(np.int64).max
"""The key of a place that is left empty: it is sorted behind all others."""


@dataclass(frozen=True)
class SpanNoise:
    """Draws spans of a window: a share of its tokens, in as many spans as make `length` tokens each on average.

    The numbers are those of the window's size alone (Raffel et al., "T5", 2019, section 3.3.4), the lengths a uniformly
    drawn composition of the first number, and the places uniform among those where no span touches another.
    """

    seed: int
    share: float
    length: float

    def __call__(self, ids: Integers, first: int) -> Bools:
        """Return which tokens of each window are left out; padding never is."""
        samples = np.arange(first, first + len(ids))
        counts = (ids != PAD).sum(1)
        hidden, spans = np.array([gaps(count, self.share, self.length) for count in counts.tolist()]).T
        most = int(spans.max())
        chances = [uniform(self.seed, samples, ids.shape[1] + 1, stream) for stream in range(2)]
        lengths = composition(chances[0], hidden, spans, most)
        # Tokens between spans, at least one; before the first and behind the last there may be none.
        between = composition(chances[1], counts - hidden + 2 * (spans > 0), spans + (spans > 0), most + 1)
        between[:, 0] -= 1
        ends = (between[:, :most] + lengths).cumsum(1)
        rows, numbers = np.nonzero(lengths)
        edges = np.zeros((len(ids), ids.shape[1] + 1), np.int64)
        np.add.at(edges, (rows, (ends - lengths)[rows, numbers]), 1)
        np.add.at(edges, (rows, ends[rows, numbers]), -1)
        return edges.cumsum(1)[:, :-1].astype(np.bool_)


def composition(chances: Floats, items: Integers, parts: Integers, most: int) -> Integers:
    """Return the sizes, `[rows, most]`, of as many parts as a row asks for: at least 1 each, its items in all.

    All ways to cut the items are alike likely: a part ends behind the items with the lowest chances.
    """
    places = np.arange(chances.shape[1])
    order = np.where(places < items[:, None] - 1, chances, 1.0).argsort(1, kind="stable")
    ends = np.zeros(chances.shape, np.int64)
    np.put_along_axis(ends, order, (places < parts[:, None] - 1).astype(np.int64), 1)
    part = ends.cumsum(1) - ends
    own = (places < items[:, None]) & (parts[:, None] > 0)
    rows = np.nonzero(own)[0]
    return np.bincount(rows * most + part[own], minlength=len(items) * most).reshape(len(items), most)


def numbered(hidden: Bools) -> tuple[Bools, Integers]:
    """Return where spans start, and the number of the last span that has begun at each token, -1 before the first."""
    starts = hidden & ~np.pad(hidden, ((0, 0), (1, 0)))[:, :-1]
    return starts, starts.cumsum(1) - 1


def packed(keys: Integers, values: Integers, empty: int) -> Integers:
    """Return the values of each row in the order of their keys, without those of `NOWHERE`, filled up with `empty`."""
    kept = keys < NOWHERE
    order = keys.argsort(1, kind="stable")[:, : max(1, kept.sum(1).max())]
    found: Integers = np.take_along_axis(np.where(kept, values, empty), order, 1)
    return found


@dataclass(frozen=True)
class Sentinels:
    """Leaves a sentinel in the place of each span; the sentinels, each with its span, are the targets, up to an end.

    As in figure 2 of Raffel et al., "T5" (2019), with `<|end|>` for the last sentinel.
    """

    first_id: int

    def __call__(self, ids: Integers, hidden: Bools) -> Windows:
        """Return inputs and targets of an encoder and a decoder, each filled up to the longest."""
        starts, numbers = numbered(hidden)
        sentinels, places = self.first_id + numbers, np.arange(ids.shape[1])
        kept = (ids != PAD) & (~hidden | starts)
        inputs = packed(np.where(kept, places, NOWHERE), np.where(hidden, sentinels, ids), PAD)
        ended = hidden.any(1, keepdims=True)
        keys = np.concatenate(
            [np.where(starts, 2 * places, NOWHERE), np.where(hidden, 2 * places + 1, NOWHERE),
             np.where(ended, 2 * len(places), NOWHERE)], 1
        )  # fmt: skip
        targets = packed(keys, np.concatenate([sentinels, ids, np.full_like(ended, END, np.int64)], 1), IGNORED)
        return torch.from_numpy(inputs), torch.from_numpy(targets)

    def tokens(self, batch: Windows) -> int:
        """Return how many tokens of text a batch has on either side."""
        inputs, targets = batch
        ends = int((targets >= 0).any(1).sum())
        return int((inputs != PAD).sum() + (targets >= 0).sum() - 2 * (targets >= self.first_id).sum()) - ends


@dataclass(frozen=True)
class LeftOutSpans:
    """Leaves spans out of windows in one of the ways above."""

    spans: SpanNoise
    layout: Sentinels

    def __call__(self, windows: Windows, first: int) -> Windows:
        """Return what is left as inputs, and what was left out as targets."""
        ids = windows[0].numpy()
        return self.layout(ids, self.spans(ids, first))

    def tokens(self, batch: Windows) -> int:
        """Return how many tokens were read."""
        return self.layout.tokens(batch)
