"""Arithmetic: loss scaling, fp8, activation checkpointing, dropout."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.pretraining.float8 import CAPABILITY, Float8Linear, use_float8
from pipelines.pretraining.precision import GROWTH_INTERVAL, LossScale
from pipelines.pretraining.ready import use_machine
from tests.pretraining.noise import CONFIG, Noise, broken, equal, loop, tiny, trained


def test_fp16_learns_with_a_scaled_loss_close_to_fp32(tmp_path: Path) -> None:
    half = trained(Noise(), tmp_path / "half", dtype="fp16")
    single = trained(Noise(), tmp_path / "single")
    assert half.step.scale.factor > 1 and half.figures()["skipped_steps"] == 0
    for one, other in zip(half.position.curve, single.position.curve, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.01)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=0.05)


def test_an_fp16_gradient_that_overflows_is_computed_again_at_a_lower_scale_and_no_batch_is_lost(
    tmp_path: Path,
) -> None:
    made = loop(Noise(), tmp_path, dtype="fp16")
    made.step.scale.factor = 2.0**40
    made.run()
    assert made.step.scale.factor < 2.0**40 and made.figures()["skipped_steps"] == 0
    assert made.objective.read == [0, 1, 2, 3, 4, 5]


def test_the_loss_scale_is_part_of_a_checkpoint(tmp_path: Path) -> None:
    first = loop(Noise(), tmp_path, dtype="fp16", max_steps=2)
    first.step.scale.factor = 2.0**40
    first.run()
    again = loop(Noise(), tmp_path, dtype="fp16", max_steps=2)
    again.run()
    assert again.step.scale == first.step.scale and again.step.scale.factor < 2.0**40


def test_the_scale_doubles_after_many_clean_steps_and_never_without_fp16() -> None:
    for dtype, grown in (("fp16", 2.0**17), ("fp32", 1.0)):
        scale = LossScale.for_dtype(dtype)
        for _ in range(GROWTH_INTERVAL):
            scale.count_clean()
        assert scale.factor == grown


def test_a_loss_that_is_no_number_is_not_blamed_on_the_scale(tmp_path: Path) -> None:
    made = trained(Noise(broken(2)), tmp_path, dtype="fp16")
    assert made.figures()["skipped_steps"] == 1 and made.step.scale.factor == 2.0**16


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_activation_checkpointing_changes_no_bit(dropout: float, tmp_path: Path) -> None:
    with_it = trained(Noise(), tmp_path / "with", activation_checkpointing=True, attention_dropout=dropout)
    without = trained(Noise(), tmp_path / "without", attention_dropout=dropout)
    assert with_it.model.is_activation_checkpointing and equal(with_it, without)  # type: ignore[truthy-function]
    assert with_it.position == without.position


def test_dropout_is_drawn_in_training_and_a_resume_goes_on_with_its_draws(tmp_path: Path) -> None:
    calm = trained(Noise(), tmp_path / "calm", attention_dropout=0.3)
    assert not equal(calm, trained(Noise(), tmp_path / "without"))
    with pytest.raises(StageFailed, match="run again to go on"):
        trained(Noise(stopped=3), tmp_path / "out", attention_dropout=0.3)
    assert equal(trained(Noise(), tmp_path / "out", attention_dropout=0.3), calm)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dtype": "fp8"}, "dtype: 'fp8' needs a GPU and the device is 'cpu'"),
        ({"attention_dropout": 0.1, "attention": "blockwise"}, "attention_dropout: 0.1 needs attention 'sdpa'"),
    ],
)
def test_what_the_machine_or_the_attention_cannot_do_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        use_machine(CONFIG.model_copy(update=changes))


def test_only_the_matrices_of_the_blocks_become_fp8_and_stay_the_same_weights() -> None:
    model = tiny()
    names = dict(model.named_parameters())
    assert use_float8(model) == 2 * 7
    assert type(model.lm_head) is nn.Linear
    assert all(names[name] is weight for name, weight in model.named_parameters())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_fp8_products_and_their_gradients_are_those_of_fp32_within_their_precision(device: str) -> None:
    if device == "cuda" and (not torch.cuda.is_available() or torch.cuda.get_device_capability() < CAPABILITY):
        pytest.skip("no GPU with fp8 products is here")
    torch.manual_seed(0)
    layer = nn.Linear(64, 32, bias=False, device=device)
    rows = torch.randn(2, 24, 64, device=device, requires_grad=True)
    seen = []
    for kind in (nn.Linear, Float8Linear):
        layer.__class__ = kind
        layer.zero_grad()
        rows.grad = None
        product = layer(rows)
        torch.autograd.backward((product.float() ** 2).sum())
        assert rows.grad is not None and layer.weight.grad is not None
        seen.append([product.detach().float(), rows.grad.clone(), layer.weight.grad.clone()])
    for exact, near in zip(*seen, strict=True):
        error = (exact - near).norm() / exact.norm()
        assert 0 < error < 0.08 and math.isfinite(error)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own compiler does
def test_an_fp8_layer_can_be_compiled_as_one_graph() -> None:
    layer = nn.Linear(32, 16, bias=False)
    layer.__class__ = Float8Linear
    rows = torch.randn(16, 32)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(rows), layer(rows))


def test_rows_that_the_fp8_product_does_not_take_are_computed_in_bf16() -> None:
    layer = nn.Linear(32, 16, bias=False)
    exact = layer(rows := torch.randn(3, 32))
    layer.__class__ = Float8Linear
    assert torch.allclose(layer(rows).float(), exact, atol=0.02)
