"""Sequences cut over processes: on CPUs by torch's ring with a CPU's kernel in it, which only tests allow."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.artifacts.errors import UserError
from pipelines.pretraining.mesh import ParallelConfig
from pipelines.pretraining.pretrain import PretrainConfig, pretrain
from tests.pretraining.together import CONFIG, Ranks, assert_same_run, curve

CUT = {"processes": 2, "context_parallel_degree": 2}


@pytest.mark.parametrize(
    "parallel",
    [
        CUT,
        pytest.param({"processes": 4, "context_parallel_degree": 4}, marks=pytest.mark.slow),
        pytest.param({"processes": 2, "context_parallel_degree": 2, "cpu_offload": True}, marks=pytest.mark.slow),
        pytest.param({"processes": 4, "context_parallel_degree": 2}, marks=pytest.mark.slow),
        pytest.param(
            {"processes": 4, "context_parallel_degree": 2, "data_parallel_replicate_degree": 2}, marks=pytest.mark.slow
        ),
    ],
    ids=str,
)
def test_cut_sequences_train_what_whole_ones_train(
    parallel: dict[str, Any], ranks: Ranks, alone: Path, tmp_path: Path
) -> None:
    processes = parallel["processes"]
    cut = {"device": "cuda", "parallel": parallel}
    assert ranks.train(tmp_path, config=cut, ring_on_cpu=True) == [0] * processes
    assert_same_run(alone, tmp_path)
    told = [json.loads((tmp_path / f"told-{number}.json").read_text()) for number in range(processes)]
    whole = json.loads((alone / "told-0.json").read_text())
    shards = processes // parallel.get("data_parallel_replicate_degree", 1)
    assert max(rank["bytes"] for rank in told) < 1.05 * whole["bytes"] / shards


@pytest.mark.slow
def test_activations_forgotten_in_blocks_are_computed_again_in_the_ring(
    ranks: Ranks, alone: Path, tmp_path: Path
) -> None:
    cut = {"device": "cuda", "parallel": CUT, "activation_checkpointing": True}
    assert ranks.train(tmp_path, config=cut, ring_on_cpu=True) == [0, 0]
    assert_same_run(alone, tmp_path)


@pytest.mark.slow
def test_grouped_heads_of_qwen3_go_round_as_well(ranks: Ranks, tmp_path: Path) -> None:
    qwen = {"architecture": "qwen3", "size": "mini", "max_steps": 6}
    assert ranks.train(tmp_path / "one", config=qwen) == [0]
    assert ranks.train(tmp_path / "cut", config={**qwen, "device": "cuda", "parallel": CUT}, ring_on_cpu=True) == [0, 0]
    assert_same_run(tmp_path / "one", tmp_path / "cut")


@pytest.mark.slow
def test_products_of_half_the_width_go_round_as_well(ranks: Ranks, tmp_path: Path) -> None:
    half = {"dtype": "bf16", "max_steps": 4, "heldout_every": 4}
    assert ranks.train(tmp_path / "one", config=half) == [0]
    assert ranks.train(tmp_path / "cut", config={**half, "device": "cuda", "parallel": CUT}, ring_on_cpu=True) == [0, 0]
    for row, expected in zip(curve(tmp_path / "cut"), curve(tmp_path / "one"), strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=5e-3)


REFUSED = {
    "context_parallel_degree 2 needs GPUs, .* and device is 'cpu'": {"device": "cpu"},
    "sequence_length 18: no multiple of 4, .* 16 would do": {"sequence_length": 18},
    "context_parallel_degree: 2 goes with copies and shards alone": {
        "parallel": {"processes": 4, "context_parallel_degree": 2, "tensor_parallel_degree": 2}
    },
    "processes: 3 does not divide by 2 .context_parallel_degree 2.; set it to 4": {
        "parallel": {"processes": 3, "context_parallel_degree": 2}
    },
}


@pytest.mark.parametrize("said", REFUSED)
def test_sequences_that_cannot_be_cut_are_refused_with_the_config(said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PretrainConfig.model_validate({**CONFIG.model_dump(), "device": "cuda", "parallel": CUT, **REFUSED[said]})


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"architecture": "gpt2"}, "architecture: 'gpt2' and .* set it to 'llama' or 'qwen3'"),
        ({"objective": "prefix_lm"}, "objective: 'prefix_lm' and .* set it to 'causal'"),
        ({"document_mask": True}, "document_mask: True and .* set it to false"),
        ({"attention": "blockwise"}, "attention: 'blockwise' and .* set it to 'sdpa'"),
        ({"attention_dropout": 0.1}, "attention_dropout: 0.1 and .* set it to 0"),
        ({"optimizer": "sophia"}, "optimizer: 'sophia' and .* set it to 'adamw'"),
        ({"compile": "always"}, "compile: 'always' and .* set it to 'never'"),
    ],
    ids=str,
)
def test_what_does_not_go_with_cut_sequences_is_refused_before_anything_starts(
    changes: dict[str, Any], remedy: str, inputs: Any, tmp_path: Path
) -> None:
    config = PretrainConfig.model_validate({**CONFIG.model_dump(), "device": "cuda", "parallel": CUT, **changes})
    with pytest.raises(UserError, match=remedy):
        pretrain(config, **inputs.named(), out=tmp_path)


def test_contexts_share_weights_out_and_no_rows() -> None:
    parallel = ParallelConfig(processes=8, context_parallel_degree=2, data_parallel_replicate_degree=2)
    assert (parallel.shards, parallel.data_degree) == (4, 4)
    given = ParallelConfig(processes=4, context_parallel_degree=2, data_parallel_shard_degree=2)
    assert given.sizes == (1, 1, 4, 1)
