"""Which experts the tokens of a mixture are sent to, and the loss that keeps them in even use."""

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.artifacts.curve import Row
from pipelines.pretraining.world import World


class ExpertUse:
    """Counts the tokens that each expert was given since the last figures, and weighs the load-balance loss.

    The loss is that of Fedus et al., "Switch Transformers" (2021), equations 4 to 6, of each sequence by itself, as in
    DeepSeek-V3 (2024), section 2.1.2: neither the micro-batch nor the number of processes then changes what is asked.
    """

    def __init__(self, chosen: int, weight: float) -> None:
        self.chosen, self.weight = chosen, weight
        self._forget()

    def _forget(self) -> None:
        self.given_LN: Tensor | None = None
        self.sums: Tensor | float = 0.0
        """The load-balance loss and the tokens it is of."""

    def balance(self, logits: tuple[Tensor, ...], counted_BS: Tensor) -> Tensor:
        """Return zero with the gradient of the weighed loss, summed over the tokens that count.

        `logits` are the routers' of each block, `[batch * sequence, experts]`. The value is left out so that the loss
        of a run stays its cross-entropy, which compares with that of other models.
        """
        logits_LBSN = torch.stack(logits).float().unflatten(1, counted_BS.shape)
        experts = logits_LBSN.shape[-1]
        counted_BS1 = counted_BS[..., None].to(logits_LBSN.dtype)
        counts_B = counted_BS.sum(1).clamp(min=1)
        chosen_LBSNK = F.one_hot(logits_LBSN.topk(self.chosen).indices, experts)
        given_LBN = (chosen_LBSNK.sum(-2) * counted_BS1).sum(2)
        shares_LBN = given_LBN / (self.chosen * counts_B[:, None])
        probabilities_LBN = (logits_LBSN.softmax(-1) * counted_BS1).sum(2) / counts_B[:, None]
        losses_B = experts * (shares_LBN * probabilities_LBN).sum(-1).mean(0)
        total = (losses_B * counted_BS.sum(1)).sum()
        if torch.is_grad_enabled():
            given_LN = given_LBN.sum(1).detach()
            self.given_LN = given_LN if self.given_LN is None else self.given_LN + given_LN
            self.sums = self.sums + torch.stack([total.detach(), counted_BS.sum()]).double()
        return self.weight * (total - total.detach())

    def figures(self, world: World) -> Row:
        """Return how even the use was since the last call, over all processes, each of which must ask.

        The least and the largest share of a block's tokens that one of its experts was given; the entropy of the
        shares, where 1 is even use; and the load-balance loss, where 1 is even use.
        """
        if self.given_LN is None or not isinstance(self.sums, Tensor):
            return {}
        given_LN = world.total(self.given_LN.double())
        loss, tokens = world.total(self.sums).tolist()
        self._forget()
        shares_LN = given_LN / given_LN.sum(1, keepdim=True)
        entropy = torch.special.entr(shares_LN).sum(1).mean() / torch.tensor(shares_LN.shape[1]).log()
        return {
            "expert_share.least": float(shares_LN.min()),
            "expert_share.most": float(shares_LN.max()),
            "expert_entropy": float(entropy),
            "load_balance_loss": loss / max(tokens, 1),
        }
