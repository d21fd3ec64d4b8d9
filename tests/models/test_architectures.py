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
    assert len(blocks(model)) == SIZES["tiny"].n_layer
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
