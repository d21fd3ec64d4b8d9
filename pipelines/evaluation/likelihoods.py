"""What the states of a model say of its targets, in the form in which lm-eval asks for it."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.models.parts import output_vectors


def likelihoods(model: Any, states_BTE: Tensor, targets_BT: Tensor, counted_BT: Tensor) -> list[tuple[float, bool]]:
    """Return of each row the log-likelihood of the targets that count, and whether all of them are likeliest."""
    targets_N = targets_BT[counted_BT]
    scores_NV = F.linear(states_BTE[counted_BT], output_vectors(model)).float().log_softmax(-1)
    worth_BT = torch.zeros(targets_BT.shape, device=targets_BT.device)
    worth_BT[counted_BT] = scores_NV.gather(1, targets_N[:, None]).squeeze(1)
    missed_BT = torch.zeros_like(counted_BT)
    missed_BT[counted_BT] = scores_NV.argmax(-1) != targets_N
    return list(zip(worth_BT.sum(1).tolist(), (~missed_BT.any(1)).tolist(), strict=True))
