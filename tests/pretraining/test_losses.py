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
