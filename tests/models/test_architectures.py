"""Each architecture: what its row promises of the model that transformers builds."""

from math import sqrt
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from pipelines.models.architectures import ARCHITECTURES, ArchitectureName
from pipelines.models.build import build
from pipelines.models.parts import block_weights, blocks, output_vectors
from pipelines.models.sizes import SIZES

NAMES = TypeAdapter[str](ArchitectureName)
CAUSAL = [name for name, row in ARCHITECTURES.items() if row.kind == "causal"]


def test_an_unknown_architecture_is_told_the_nearest_one() -> None:
    with pytest.raises(ValidationError, match="did you mean 'qwen3'"):
        NAMES.validate_python("quen3")
    with pytest.raises(ValidationError, match="there are llama, qwen3"):
        NAMES.validate_python("x")
    assert NAMES.json_schema()["enum"] == list(ARCHITECTURES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_blocks_are_found_and_tied_vectors_lie_outside(architecture: str) -> None:
    model = build("tiny", 262, 32, architecture=architecture)
    stacks = 2 if ARCHITECTURES[architecture].kind == "seq2seq" else 1
    assert len(blocks(model)) == stacks * SIZES["tiny"].n_layer
    assert output_vectors(model) is model.get_input_embeddings().weight
    assert output_vectors(model) not in block_weights(model)


@pytest.mark.parametrize("architecture", CAUSAL)
def test_blockwise_attention_gives_the_same_scores_also_over_document_starts(architecture: str) -> None:
    ids = torch.randint(6, 262, (2, 150), generator=torch.Generator().manual_seed(0))
    starts = torch.cat([torch.arange(40), torch.arange(110)]).expand(2, -1)
    for position_ids in (None, starts):
        scores = []
        for attention in ("sdpa", "blockwise"):
            torch.manual_seed(0)
            model = build("tiny", 262, 150, architecture=architecture, attention=attention).eval()  # type: ignore[arg-type]
            scores.append(model(input_ids=ids, position_ids=position_ids, use_cache=False).logits)
        torch.testing.assert_close(scores[0], scores[1], atol=5e-5, rtol=1e-4)


def spread(weight: torch.Tensor) -> float:
    return float(weight.detach().std())


def test_gpt2_weights_are_drawn_as_its_paper_says() -> None:
    torch.manual_seed(0)
    model: Any = build("mini", 4096, 64, architecture="gpt2")
    block = model.transformer.h[0]
    assert spread(model.transformer.wte.weight) == pytest.approx(0.02, rel=0.05)
    assert spread(block.mlp.c_fc.weight) == pytest.approx(0.02, rel=0.05)
    # Layers on the residual path are scaled by 1/sqrt(N), two a block (Radford et al., 2019, section 2.3).
    for layer in (block.attn.c_proj, block.mlp.c_proj):
        assert spread(layer.weight) == pytest.approx(0.02 / sqrt(2 * SIZES["mini"].n_layer), rel=0.05)
        assert not layer.bias.any()


def test_llama_and_qwen3_weights_have_one_spread() -> None:
    for name in ("llama", "qwen3"):
        torch.manual_seed(0)
        model: Any = build("mini", 4096, 64, architecture=name)
        for layer in (model.model.layers[0].self_attn.o_proj, model.model.layers[0].mlp.up_proj):
            assert spread(layer.weight) == pytest.approx(0.02, rel=0.05)


def test_bert_weights_are_drawn_from_a_normal_distribution_that_is_cut() -> None:
    torch.manual_seed(0)
    model: Any = build("mini", 4096, 64, architecture="bert")
    dense = model.bert.encoder.layer[0].intermediate.dense
    assert spread(dense.weight) == pytest.approx(0.0176, rel=0.05), "a spread of .02, less its tails"
    assert all(weight.abs().max() <= 0.04 for weight in model.parameters() if weight.ndim > 1)
    assert not dense.bias.any() and model.bert.embeddings.LayerNorm.weight.eq(1).all()


def test_modernbert_weights_are_scaled_by_depth_on_the_residual_path() -> None:
    torch.manual_seed(0)
    model: Any = build("mini", 4096, 64, architecture="modernbert")
    block, cut = model.model.layers[0], 0.88  # what cutting at two standard deviations leaves of the spread
    assert spread(block.mlp.Wi.weight) == pytest.approx(0.02 * cut, rel=0.05)
    assert spread(block.mlp.Wo.weight) == pytest.approx(0.02 * cut / sqrt(2 * SIZES["mini"].n_layer), rel=0.05)


def test_t5_weights_are_scaled_by_what_comes_in() -> None:
    torch.manual_seed(0)
    model: Any = build("mini", 4096, 64, architecture="t5")
    width, block = SIZES["mini"].d_model, model.decoder.block[0]
    attention, dense = block.layer[1].EncDecAttention, block.layer[2].DenseReluDense
    assert spread(model.shared.weight) == pytest.approx(1.0, rel=0.05)
    # No scores are divided by the root of a head's width: queries begin as much smaller (T5's own code).
    assert spread(attention.q.weight) == pytest.approx((width * SIZES["mini"].head_dim) ** -0.5, rel=0.05)
    assert spread(attention.k.weight) == pytest.approx(width**-0.5, rel=0.05)
    assert spread(dense.wo.weight) == pytest.approx((4 * width) ** -0.5, rel=0.05)


def test_mixtures_draw_experts_and_routers_like_other_matrices() -> None:
    for name in ("mixtral", "qwen3_moe"):
        torch.manual_seed(0)
        mlp: Any = build("mini", 4096, 64, architecture=name).model.layers[0].mlp
        for weight in (mlp.gate.weight, mlp.experts.gate_up_proj, mlp.experts.down_proj):
            assert spread(weight) == pytest.approx(0.02, rel=0.05)
