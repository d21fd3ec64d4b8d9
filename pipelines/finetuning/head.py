"""The output layer on a CPU: only where a label stands, which is half of the work of TRL's own.

TRL scores every position in tiles and computes the tiles again for the gradient, to save a GPU's memory; its forward
on the labelled positions alone needs Triton.
"""

import functools
import types
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from trl.trainer.utils import FusedCausalLMOutput

from pipelines.pretraining.losses import IGNORED


def score_labels_only(model: Any) -> None:
    """Let a Llama that a TRL trainer prepared score its labelled positions alone.

    The figures that TRL only logs (entropy, mean logit) are zero. Models of other families are left as they are: some
    scale or bound their logits.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if inner.config.model_type != "llama":
        return
    prepared = inner.forward

    @functools.wraps(type(inner).forward)  # generation reads the signature
    def forward(self: Any, *inputs: Any, fused_lm_head: bool = False, labels: Any = None, **more: Any) -> Any:
        if not fused_lm_head:
            return prepared(*inputs, **({} if labels is None else {"labels": labels}), **more)
        more["use_cache"] = False
        more.pop("num_items_in_batch", None)
        hidden_BSD = self.base_model(*inputs, **more).last_hidden_state[:, :-1]
        targets_BS = labels[:, 1:]
        scored_BS = targets_BS != IGNORED
        logits_NV = self.get_output_embeddings()(hidden_BSD[scored_BS]).float()
        targets_N = targets_BS[scored_BS]
        log_probs_N = -cross_entropy(logits_NV, targets_N, reduction="none")
        unscored_BS = log_probs_N.new_zeros(scored_BS.shape)
        log_probs_BS = unscored_BS.masked_scatter(scored_BS, log_probs_N)
        return FusedCausalLMOutput(
            loss=-log_probs_BS.sum() / scored_BS.sum().clamp(min=1),
            log_probs=log_probs_BS,
            entropy=torch.zeros_like(unscored_BS),
            mean_logits=torch.zeros_like(unscored_BS),
            is_top1=torch.zeros_like(scored_BS).masked_scatter(scored_BS, logits_NV.argmax(-1) == targets_N),
            label_mask=scored_BS,
        )

    inner.forward = types.MethodType(forward, inner)
