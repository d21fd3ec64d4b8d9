"""What an objective leaves out of a window, as a pure function of the seed and the window's global number.

A run that is resumed, or spread over other processes, therefore hides the same tokens.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.pretraining.losses import IGNORED, PAD
from pipelines.tokens.permutation import MASK, Integers, mix
from pipelines.tokens.special import SPECIAL_TOKENS

Windows = tuple[Tensor, Tensor]
"""Inputs and targets, `[windows, tokens]` each; as they come, a token's target is the next one."""


class Corruption(Protocol):
    """What an objective leaves out."""

    def __call__(self, windows: Windows, first: int) -> Windows:
        """Return what is shown of windows, and what is asked for; `first` is the first one's global number."""
        ...

    def tokens(self, batch: Windows) -> int:
        """Return how many tokens of text were read for such a batch."""
        ...


FIRST_TEXT_ID = len(SPECIAL_TOKENS)
REPLACED, RANDOM = 0.8, 0.9
"""Of the tokens to predict, so many are hidden, the next tenth is another token, and the others stay."""


def uniform(seed: int, samples: Integers, count: int, stream: int) -> NDArray[np.float64]:
    """Return numbers in [0, 1), `[samples, count]`; another stream of the same samples is independent."""
    keys = mix(mix(mix(np.array([seed & MASK], np.uint64)) ^ samples.astype(np.uint64)) + np.uint64(stream))
    words = mix(keys[:, None] + np.arange(count, dtype=np.uint64) * np.uint64(0xD1342543DE82EF95))
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class MaskedTokens:
    """Hides a share of the tokens, as in Devlin et al., "BERT" (2019), section 3.1; special tokens stay."""

    seed: int
    share: float
    mask_id: int

    def __call__(self, windows: Windows, first: int) -> Windows:
        """Return the windows with tokens hidden, and those tokens as the targets."""
        ids = windows[0].numpy()
        samples = np.arange(first, first + len(ids))
        chances, ways, others = (uniform(self.seed, samples, ids.shape[1], stream) for stream in range(3))
        chosen = (chances < self.share) & (ids >= FIRST_TEXT_ID)
        random = FIRST_TEXT_ID + (others * (self.mask_id - FIRST_TEXT_ID)).astype(ids.dtype)
        shown = np.where(ways < REPLACED, self.mask_id, np.where(ways < RANDOM, random, ids))
        inputs, targets = np.where(chosen, shown, ids), np.where(chosen, ids, IGNORED)
        return torch.from_numpy(inputs), torch.from_numpy(targets)

    def tokens(self, batch: Windows) -> int:
        """Return how many tokens were read."""
        return int((batch[0] != PAD).sum())
