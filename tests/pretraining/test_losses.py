import pytest
import torch
from torch.nn import functional as F

from pipelines.models.build import build
from pipelines.pretraining import losses
from pipelines.pretraining.losses import causal_cross_entropy


@pytest.mark.parametrize("chunk", [5, 64, 1024])
def test_the_chunked_loss_equals_the_whole_one_in_value_and_gradients(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK", chunk)
    torch.manual_seed(0)
    model = build("tiny", 262, 64)
    ids = torch.randint(6, 262, (3, 33))
    targets = ids[:, 1:].clone()
    targets[0, :10] = losses.IGNORED

    ours = causal_cross_entropy(model, ids[:, :-1], targets)
    ours.backward()
    ours_gradients = [weight.grad for weight in model.parameters()]
    model.zero_grad()
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    whole = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    whole.backward()

    torch.testing.assert_close(ours, whole)
    for mine, weight in zip(ours_gradients, model.parameters(), strict=True):
        torch.testing.assert_close(mine, weight.grad, atol=1e-3, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(causal_cross_entropy(model, ids[:, :-1], targets), whole)


def test_a_loss_without_a_closed_form_has_the_same_gradients() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(40, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    targets = torch.randint(0, 50, (40,))
    targets[::7] = losses.IGNORED

    def same(logits: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        return losses.summed_cross_entropy(logits, expected)

    found = []
    for loss in (losses.summed_cross_entropy, same):
        value = losses.vocabulary_loss(hidden, weight, loss, targets)
        found.append([value, *torch.autograd.grad(value, (hidden, weight))])
    for closed, differentiated in zip(*found, strict=True):
        torch.testing.assert_close(closed, differentiated)


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4])
def test_the_loss_stays_exact_far_from_zero(shift: float) -> None:
    logits = torch.randn(6, 9, dtype=torch.float64) + shift
    hidden, weight = torch.eye(6, requires_grad=True), logits.float().T.clone().requires_grad_()
    targets = torch.arange(6)
    ours = losses.vocabulary_loss(hidden, weight, losses.summed_cross_entropy, targets)
    torch.testing.assert_close(ours, F.cross_entropy(weight.T, targets, reduction="sum"))
    ours.backward()
    assert weight.grad is not None and weight.grad.isfinite().all()


def test_under_autocast_the_gradients_are_summed_in_fp32() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(30, 8, requires_grad=True), torch.randn(20, 8, requires_grad=True)
    targets = torch.randint(0, 20, (30,))
    exact = torch.autograd.grad(F.cross_entropy(hidden @ weight.T, targets, reduction="sum"), (hidden, weight))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = losses.vocabulary_loss(hidden, weight, losses.summed_cross_entropy, targets)
    for rough, true in zip(torch.autograd.grad(value, (hidden, weight)), exact, strict=True):
        assert rough.dtype == torch.float32 and (rough - true).norm() < 0.02 * true.norm()
