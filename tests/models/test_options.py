"""Options of architecture and first weights: what they change, and that plain transformers reads what they make."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipelines.artifacts.errors import UserError
from pipelines.models.build import build
from pipelines.models.counting import count_parameters
from pipelines.models.options import PLAIN, ModelOptions
from pipelines.pretraining.combination import check_combination
from pipelines.pretraining.pretrain import PretrainConfig


def weights(**fields: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(build("tiny", 300, 16, options=ModelOptions(**fields)).named_parameters())


def test_the_plain_options_leave_llamas_own_weights() -> None:
    torch.manual_seed(0)
    plain = dict(build("tiny", 300, 16).named_parameters())
    assert all(torch.equal(weight, plain[name]) for name, weight in weights().items())
    assert ModelOptions() == PLAIN


def test_blocks_that_begin_with_nothing_pass_the_embedding_on() -> None:
    torch.manual_seed(0)
    model = build("tiny", 300, 16, options=ModelOptions(zero_outputs=True))
    ids = torch.arange(8)[None]
    with torch.no_grad():
        found = model.model(input_ids=ids).last_hidden_state
        assert torch.allclose(found, model.model.norm(model.model.embed_tokens(ids)))


def test_first_weights_have_the_deviation_that_was_asked_for() -> None:
    made = weights(matrix_std="fan_in", tied=False, embedding_std=1.0, unembedding_std=0.001)
    deviations = {name: float(weight.detach().std()) for name, weight in made.items() if weight.ndim == 2}
    assert deviations["model.embed_tokens.weight"] == pytest.approx(1.0, rel=0.05)
    assert deviations["lm_head.weight"] == pytest.approx(0.001, rel=0.05)
    down = deviations["model.layers.0.mlp.down_proj.weight"]  # 96 x 256
    assert down == pytest.approx(math.sqrt(96 / 256) / math.sqrt(256), rel=0.05)
    assert deviations["model.layers.0.mlp.up_proj.weight"] == pytest.approx(1 / math.sqrt(96), rel=0.05)


@pytest.mark.parametrize("tied", [True, False])
def test_two_tables_are_counted_twice(tied: bool) -> None:
    made = weights(tied=tied)
    assert sum(weight.numel() for weight in made.values()) == count_parameters("tiny", 300, tied=tied)


def test_plain_transformers_reads_a_model_of_all_options(tmp_path: Path) -> None:
    options = ModelOptions(tied=False, activation="relu2", zero_outputs=True, matrix_std="fan_in", embedding_std=1.0)
    torch.manual_seed(0)
    model = build("tiny", 300, 16, options=options).eval()
    model.save_pretrained(tmp_path)
    read = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=False).eval()
    ids = torch.arange(6)[None]
    with torch.no_grad():
        assert torch.equal(read(input_ids=ids).logits, model(input_ids=ids).logits)


def test_options_of_an_architecture_they_are_not_made_for_are_refused() -> None:
    config = PretrainConfig(architecture="gpt2", options=ModelOptions(tied=False))
    with pytest.raises(UserError, match=r"pretrain\.options: they are made for llama and qwen3"):
        check_combination(config)
