"""Mixtures of experts: the load-balance loss, and the figures of their use."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from pipelines.artifacts.errors import UserError
from pipelines.models.build import build
from pipelines.pretraining.combination import check_combination
from pipelines.pretraining.experts import ExpertUse
from pipelines.pretraining.losses import causal_cross_entropy
from pipelines.pretraining.pretrain import PretrainConfig, pretrain
from pipelines.pretraining.world import ALONE

MIXTURES = ("mixtral", "qwen3_moe")
TINY = PretrainConfig(
    architecture="mixtral", size="tiny", sequence_length=16, global_batch=4, micro_batch=4, max_steps=4, log_interval=2
)


def routed(experts: int = 8) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(3 * 5, experts, requires_grad=True) for _ in range(2))


def test_the_loss_of_one_sequence_is_that_of_transformers() -> None:
    logits = tuple(layer[:5] for layer in routed())
    use = ExpertUse(chosen=2, weight=1.0)
    balance = use.balance(logits, torch.ones(1, 5, dtype=torch.bool))
    ours = torch.autograd.grad(balance, logits)
    # It counts both choices, which halves the weight of each, and takes the blocks of a model for one.
    theirs = sum(load_balancing_loss_func((layer,), 8, 2) / 2 for layer in logits) / len(logits)
    expected = torch.autograd.grad(theirs * 5, logits)
    assert balance.item() == 0
    torch.testing.assert_close(use.figures(ALONE)["load_balance_loss"], theirs.item())
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_rows_computed_apart_have_the_same_gradients() -> None:
    logits, counted = routed(), torch.ones(3, 5, dtype=torch.bool)
    counted[1, 2:] = False
    together = torch.autograd.grad(ExpertUse(2, 1.0).balance(logits, counted), logits)
    parts = [layer.unflatten(0, (3, 5)) for layer in logits]
    apart = sum(ExpertUse(2, 1.0).balance(tuple(p[row] for p in parts), counted[row : row + 1]) for row in range(3))
    assert isinstance(apart, torch.Tensor)
    for one, other in zip(together, torch.autograd.grad(apart, logits), strict=True):
        torch.testing.assert_close(one, other)


def test_even_and_one_sided_use_have_the_figures_of_their_names() -> None:
    counted = torch.ones(1, 8, dtype=torch.bool)
    use = ExpertUse(chosen=1, weight=0.0)
    use.balance((torch.eye(8),), counted)
    even = use.figures(ALONE)
    assert even["expert_share.least"] == even["expert_share.most"] == 0.125
    assert even["expert_entropy"] == pytest.approx(1) and even["load_balance_loss"] == pytest.approx(1)
    use.balance((100 * torch.eye(8)[:1].expand(8, 8),), counted)
    one_sided = use.figures(ALONE)
    assert one_sided["expert_share.least"] == 0 and one_sided["expert_share.most"] == 1
    assert one_sided["expert_entropy"] == pytest.approx(0) and one_sided["load_balance_loss"] == pytest.approx(8)
    assert use.figures(ALONE) == {}, "nothing was counted since"


@pytest.mark.parametrize("architecture", MIXTURES)
def test_the_loss_of_a_mixture_is_its_cross_entropy(architecture: str) -> None:
    torch.manual_seed(0)
    model = build("tiny", 64, 16, architecture=architecture)
    ids = torch.randint(6, 64, (2, 17))
    use = ExpertUse(2, 1.0)
    with_balance = causal_cross_entropy(model, ids[:, :-1], ids[:, 1:], experts=use)
    logits = model(input_ids=ids[:, :-1]).logits.flatten(0, 1)
    torch.testing.assert_close(with_balance, torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten()) * 32)
    with_balance.backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_lines_of_the_log_tell_how_experts_are_used(inputs: Any, tmp_path: Path) -> None:
    pretrain(TINY, **inputs.named(), out=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert 0 <= line["expert_share.least"] <= 1 / 8 <= line["expert_share.most"] <= 1
        assert 0 < line["expert_entropy"] <= 1 <= line["load_balance_loss"] + 0.05


def test_a_large_weight_makes_the_use_more_even(inputs: Any, tmp_path: Path) -> None:
    ends = {}
    for weight in (0.0, 1.0):
        config = TINY.model_copy(update={"load_balance": weight, "max_steps": 30, "log_interval": 10, "lr": 5e-3})
        pretrain(config, **inputs.named(), out=tmp_path / str(weight))
        last = (tmp_path / str(weight) / "log" / "metrics.jsonl").read_text().splitlines()[-1]
        ends[weight] = json.loads(last)["expert_entropy"]
    assert ends[1.0] > ends[0.0]


@pytest.mark.parametrize("changed", [{"optimizer": "muon"}, {"activation_checkpointing": True}])
def test_a_mixture_trains_with_every_way_to_train(changed: dict[str, object], inputs: Any, tmp_path: Path) -> None:
    metrics = pretrain(TINY.model_copy(update=changed), **inputs.named(), out=tmp_path)
    assert metrics["heldout_loss"] < 5.6


def test_compiled_blocks_are_refused_since_they_hide_the_routing() -> None:
    with pytest.raises(UserError, match=r"compile: 'always' hides which experts of 'mixtral' are used"):
        check_combination(TINY.model_copy(update={"compile": "always"}))
