"""The objective of a prefix language model: what follows a prefix, whose tokens see each other on both sides.

Liu et al., "Generating Wikipedia by summarizing long sequences" (2018); Raffel et al., "T5" (2019), section 3.2.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers.masking_utils import create_causal_mask

from pipelines.pretraining.corruption import Windows, uniform
from pipelines.pretraining.experts import ExpertUse
from pipelines.pretraining.losses import IGNORED, PAD, causal_cross_entropy
from pipelines.tokens.positions import document_positions

ALONE = -1
"""The group of a token that sees nothing behind itself, for transformers."""


@dataclass(frozen=True)
class Prefixes:
    """Asks for what follows a prefix; its length is drawn evenly from 1 to that of the window."""

    seed: int

    def __call__(self, windows: Windows, first: int) -> Windows:
        """Return the inputs as they are, and of the next tokens those behind the prefix."""
        inputs_BS, targets_BS = windows
        drawn_B = uniform(self.seed, np.arange(first, first + len(inputs_BS)), 1, 0)[:, 0]
        last_B = torch.from_numpy((drawn_B * (inputs_BS != PAD).sum(1).numpy()).astype(np.int64))
        inside_BS = torch.arange(inputs_BS.shape[1]) < last_B[:, None]
        return inputs_BS, targets_BS.masked_fill(inside_BS, IGNORED)

    def tokens(self, batch: Windows) -> int:
        """Return how many tokens were read."""
        return int((batch[0] != PAD).sum())


def prefix_mask(config: Any, lengths_B: Tensor, size: int, positions_BS: Tensor | None = None) -> Tensor:
    """Return what attention sees of rows of `size` tokens: all of the prefix, and else what stands before.

    Where `positions_BS` begins anew, so does a document, and none sees another.
    """
    places_S = torch.arange(size, device=lengths_B.device)
    documents_BS = torch.zeros_like(places_S)[None] if positions_BS is None else (positions_BS == 0).cumsum(1)
    mask = create_causal_mask(
        config,
        inputs_embeds=torch.empty(len(lengths_B), size, 0, device=lengths_B.device),
        attention_mask=None,
        past_key_values=None,
        position_ids=positions_BS,
        block_sequence_ids=documents_BS.where(places_S < lengths_B[:, None], ALONE),
    )
    return cast(Tensor, mask)  # groups of tokens that see each other are never left to sdpa's own causal mask


def prefix_cross_entropy(
    model: Any, inputs_BS: Tensor, targets_BS: Tensor, *, document_mask: bool, experts: ExpertUse | None = None
) -> Tensor:
    """Return the cross-entropy of what follows the prefixes, which end with the first token whose successor counts."""
    positions_BS = document_positions(inputs_BS) if document_mask else None
    lengths_B = (targets_BS != IGNORED).int().argmax(1) + 1
    mask = prefix_mask(model.config, lengths_B, inputs_BS.shape[1], positions_BS)
    return causal_cross_entropy(model, inputs_BS, targets_BS, positions_BS, experts, mask)
