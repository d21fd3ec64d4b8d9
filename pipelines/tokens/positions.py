"""Where each token stands within its document, by which attention tells packed documents apart."""

import torch
from torch import Tensor

from pipelines.tokens.special import BOS, SPECIAL_TOKENS

BOS_ID = SPECIAL_TOKENS.index(BOS)


def document_positions(ids_BS: Tensor) -> Tensor:
    """Return the place of each token in its document, or in the part of it that its row holds; shapes are equal.

    A document begins with `<|bos|>`, which no text contains. transformers reads a position that does not go on by one
    as the start of another sequence and lets no attention pass it.
    """
    places_BS = torch.arange(ids_BS.shape[1], device=ids_BS.device).expand_as(ids_BS)
    return places_BS - torch.where(ids_BS == BOS_ID, places_BS, 0).cummax(dim=1).values
