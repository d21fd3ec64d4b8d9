"""Losses over the vocabulary that never hold the scores of all tokens at once."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from pipelines.models.parts import output_vectors
from pipelines.pretraining.cut_vocabulary import cut_cross_entropy
from pipelines.pretraining.experts import ExpertUse
from pipelines.tokens.special import PAD as PAD_TOKEN
from pipelines.tokens.special import SPECIAL_TOKENS

PAD = SPECIAL_TOKENS.index(PAD_TOKEN)

IGNORED = -100
"""A target that counts nothing, as in transformers."""

CHUNK = 1024
"""Tokens whose scores are in memory at once."""

PIECE = 64
"""Tokens whose scores a CPU has in fp32 at once: they go through its cache many times, and through memory once."""

ChunkLoss = Callable[..., Tensor]
Gradient = Callable[..., tuple[Tensor, Tensor]]
"""Returns a chunk's loss and its gradient by the logits, which it may overwrite."""


def vocabulary_loss(hidden_NE: Tensor, weight_VE: Tensor, loss: ChunkLoss, *others: Tensor) -> Tensor:
    """Return `loss(logits, *others)` summed over chunks of the tokens, where `logits = hidden @ weight.T`.

    Gradients are taken chunk by chunk in the forward pass, so scores live for one chunk only (Hsu et al., "Liger
    Kernel", 2024). `others` are cut along the first dimension too and get no gradient; `loss` must be a sum over
    tokens.
    """
    if isinstance(weight_VE, DTensor) and loss is summed_cross_entropy:
        return cut_cross_entropy(hidden_NE, weight_VE, others[0], IGNORED, CHUNK)
    if not torch.is_grad_enabled():
        chunks = _chunks(hidden_NE, *others)
        return torch.stack([loss(F.linear(part, weight_VE), *rest) for part, *rest in chunks]).sum()
    gradient = _cross_entropy_gradient if loss is summed_cross_entropy else _differentiated(loss)
    total: Tensor = _ChunkedLoss.apply(hidden_NE, weight_VE, gradient, *others)  # type: ignore[no-untyped-call]
    return total


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the tensors in pieces of as many tokens as fit in memory at once."""
    return zip(*(torch.split(tensor, CHUNK) for tensor in tensors), strict=True)


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_NE: Tensor, weight_VE: Tensor, gradient: Gradient, *others: Tensor) -> Tensor:
        device = hidden_NE.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_NE.dtype
        weight = weight_VE.to(dtype)  # once, and not for each chunk
        total = hidden_NE.new_zeros((), dtype=torch.float32)
        grad_hidden, grad_weight = torch.empty_like(hidden_NE), torch.zeros_like(weight_VE)
        for grad_part, part, *rest in _chunks(grad_hidden, hidden_NE.to(dtype), *others):
            value, grad_logits = gradient(F.linear(part, weight), *rest)
            total += value
            grad_part.copy_(grad_logits @ weight)
            if dtype == weight_VE.dtype:
                grad_weight.addmm_(grad_logits.mT, part)
            else:
                grad_weight += grad_logits.mT @ part
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        absent = [None] * (len(ctx.needs_input_grad) - 2)
        return grad_hidden * grad_total, grad_weight * grad_total, *absent


def summed_cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Return the cross-entropy summed over the targets that count, in nats and fp32."""
    return F.cross_entropy(logits_NV.float(), targets_N, ignore_index=IGNORED, reduction="sum")


def _cross_entropy_gradient(logits_NV: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy and its gradient, softmax less one at the target, in place of the logits."""
    counted_N1 = (targets_N != IGNORED)[:, None]
    ids_N1 = targets_N[:, None].where(counted_N1, 0)
    losses_N1 = torch.empty_like(ids_N1, dtype=torch.float32)
    size = PIECE if logits_NV.is_cpu else CHUNK
    pieces = (torch.split(whole, size) for whole in (logits_NV, ids_N1, counted_N1, losses_N1))
    for logits, ids, counted, losses in zip(*pieces, strict=True):
        scores = logits.float()
        expected, highest = scores.gather(1, ids), scores.amax(1, keepdim=True)
        sums = scores.sub_(highest).exp_().sum(1, keepdim=True)
        losses.copy_(sums.log() + (highest - expected))
        scores.mul_(counted / sums).scatter_add_(1, ids, -counted.to(scores.dtype))
        logits.copy_(scores)
    return losses_N1[counted_N1].sum(), logits_NV


def _differentiated(loss: ChunkLoss) -> Gradient:
    """Return the gradient of a loss that has no closed form here."""

    def gradient(logits_NV: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            value = loss(logits_NV.requires_grad_(), *others)
        return value.detach(), torch.autograd.grad(value, logits_NV)[0]

    return gradient


def masked_cross_entropy(model: Any, inputs_BS: Tensor, targets_BS: Tensor, head: str) -> Tensor:
    """Return the cross-entropy of the tokens that are targets, summed; scores are computed for those alone.

    `head` names the layers between the last block and the scores. Padding is not looked at.
    """
    chosen_BS = targets_BS != IGNORED
    seen = model.base_model(input_ids=inputs_BS, attention_mask=(inputs_BS != PAD).long()).last_hidden_state
    hidden_NE = model.get_submodule(head)(seen[chosen_BS])
    scores = model.get_output_embeddings()
    ones_N1 = hidden_NE.new_ones(len(hidden_NE), 1)  # times a column of biases
    weight_VE = torch.cat([scores.weight, scores.bias[:, None]], dim=1)
    hidden_NE = torch.cat([hidden_NE, ones_N1], dim=1)
    return vocabulary_loss(hidden_NE, weight_VE, summed_cross_entropy, targets_BS[chosen_BS])


def seq2seq_cross_entropy(model: Any, inputs_BS: Tensor, targets_BT: Tensor) -> Tensor:
    """Return the cross-entropy of what a decoder writes, summed over the targets that count."""
    hidden_NE = decoded(model, inputs_BS, targets_BT).flatten(0, 1)
    return vocabulary_loss(hidden_NE, output_vectors(model), summed_cross_entropy, targets_BT.flatten())


def decoded(model: Any, inputs_BS: Tensor, targets_BT: Tensor) -> Tensor:
    """Return the states of T5's decoder, `[batch, targets, width]`, before each target, scaled as its scores ask.

    Padding of the inputs is not looked at; the decoder starts with it, and targets that do not count come last.
    """
    seen_BS = (inputs_BS != PAD).long()
    encoded = model.encoder(input_ids=inputs_BS, attention_mask=seen_BS).last_hidden_state
    before_BT = F.pad(targets_BT[:, :-1], (1, 0), value=PAD)
    hidden = model.decoder(
        input_ids=before_BT.where(before_BT != IGNORED, PAD),
        encoder_hidden_states=encoded,
        encoder_attention_mask=seen_BS,
        use_cache=False,
    ).last_hidden_state
    states: Tensor = hidden * model.model_dim**-0.5
    return states


def causal_cross_entropy(
    model: Any,
    inputs_BS: Tensor,
    targets_BS: Tensor,
    positions_BS: Tensor | None = None,
    experts: ExpertUse | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy of a causal model's next tokens, summed over the targets that count.

    Where `positions_BS` does not go on by one, attention does not look back; `mask`, `[batch, 1, queries, keys]`, says
    otherwise what it sees. With `experts` comes the gradient of the load-balance loss of a mixture.
    """
    routed = {"output_router_logits": True} if experts else {}
    found = model.base_model(
        input_ids=inputs_BS, attention_mask=mask, position_ids=positions_BS, use_cache=False, **routed
    )
    hidden_NE = found.last_hidden_state.flatten(0, 1)
    loss = vocabulary_loss(hidden_NE, output_vectors(model), summed_cross_entropy, targets_BS.flatten())
    return loss + experts.balance(found.router_logits, inputs_BS != PAD) if experts else loss
