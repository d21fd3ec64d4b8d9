"""Two and four processes train what one trains: the same samples, losses to rounding, shares of the state."""

import json
import os
import random
import signal
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch.distributed.checkpoint import HuggingFaceStorageReader, load

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.work import progress_dir, read_progress
from pipelines.pretraining.mesh import ParallelConfig
from pipelines.pretraining.pretrain import PretrainConfig, pretrain
from tests.pretraining.together import (
    ALONE,
    CONFIG,
    COPIES,
    SHARDS,
    Mesh,
    Ranks,
    assert_same_run,
    curve,
    published,
    spread,
)

HYBRID, TENSOR, PIPELINE, TENSOR_AND_SHARDS = (1, 2, 2, 1), (1, 1, 1, 2), (2, 1, 1, 1), (1, 1, 2, 2)
OTHERS = [
    (1, 4, 1, 1),
    (1, 1, 4, 1),
    (4, 1, 1, 1),
    TENSOR_AND_SHARDS,
    (1, 2, 1, 2),
    (2, 2, 1, 1),
    (2, 1, 2, 1),
    (2, 1, 1, 2),
]
MESHES = [
    COPIES,
    SHARDS,
    TENSOR,
    PIPELINE,
    HYBRID,
    *(pytest.param(mesh, marks=pytest.mark.slow) for mesh in OTHERS),
]
OBJECTIVES = [
    {"architecture": "t5"},
    pytest.param({"architecture": "glm"}, marks=pytest.mark.slow),
    pytest.param({"objective": "prefix_lm"}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("learnt", OBJECTIVES, ids=str)
def test_shards_of_a_model_learn_by_each_objective_what_one_process_does(
    learnt: dict[str, str], ranks: Ranks, tmp_path: Path
) -> None:
    config = {"size": "tiny", "max_steps": 4, "publish": "last", **learnt}
    assert ranks.train(tmp_path / "alone", config=config) == [0]
    assert ranks.train(tmp_path / "shards", SHARDS, config=config) == [0, 0]
    for one, other in zip(curve(tmp_path / "alone"), curve(tmp_path / "shards"), strict=True):
        assert other == pytest.approx(one, rel=2e-5, abs=1e-5)


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_a_mesh_of_processes_trains_what_one_trains(mesh: Mesh, ranks: Ranks, alone: Path, tmp_path: Path) -> None:
    processes = prod(mesh)
    micro_batch = 1 if mesh[0] > 1 else 2
    assert ranks.train(tmp_path, mesh, config={"micro_batch": micro_batch}) == [0] * processes
    assert_same_run(alone, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20]
    assert all(0 < line["communication_share"] < 1 for line in lines)
    told = [json.loads((tmp_path / f"told-{number}.json").read_text()) for number in range(processes)]
    whole = json.loads((alone / "told-0.json").read_text())
    stages, copies, shards, tensors = mesh
    parts = stages * shards * tensors
    if tensors == stages == 1:  # else some have the norms, or the vocabulary, together
        assert sum(rank["bytes"] for rank in told) == copies * whole["bytes"]
    both_ends = 1.15 if stages > 1 else 1.05  # the first and the last stage both have the vocabulary's table
    for held in ("bytes", "optimizer_bytes"):
        assert max(rank[held] for rank in told) < both_ends * whole[held] / parts
    if stages > 1:
        micro_batches = CONFIG.global_batch // (copies * shards)
        assert all(0 < line["bubble_share"] < 1 for line in lines)
        assert lines[0]["bubble_share_of_schedule"] == (stages - 1) / (micro_batches + stages - 1)
    assert all(rank["metrics"] == told[0]["metrics"] for rank in told)


@pytest.mark.parametrize("mesh", [ALONE, pytest.param(TENSOR_AND_SHARDS, marks=pytest.mark.slow)], ids=str)
def test_a_state_in_host_memory_trains_the_same(mesh: Mesh, ranks: Ranks, alone: Path, tmp_path: Path) -> None:
    parallel = {**spread(mesh), "cpu_offload": True}
    assert ranks.train(tmp_path, config={"parallel": parallel}) == [0] * prod(mesh)
    assert_same_run(alone, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [TENSOR_AND_SHARDS, (2, 1, 1, 2)], ids=str)
def test_qwen3_is_cut_as_well(mesh: Mesh, ranks: Ranks, tmp_path: Path) -> None:
    qwen = {"architecture": "qwen3", "micro_batch": 1}
    assert ranks.train(tmp_path / "one", config=qwen) == [0]
    assert ranks.train(tmp_path / "four", mesh, config=qwen) == [0] * 4
    assert_same_run(tmp_path / "one", tmp_path / "four")


@pytest.mark.parametrize(
    ("architecture", "shards"), [("mixtral", 2), pytest.param("qwen3_moe", 4, marks=pytest.mark.slow)]
)
def test_experts_dealt_out_to_shards_learn_the_same(
    architecture: str, shards: int, ranks: Ranks, tmp_path: Path
) -> None:
    mixture = {"architecture": architecture, "micro_batch": 1}
    parallel = {**spread((1, 1, shards, 1)), "expert_parallel_degree": shards}
    assert ranks.train(tmp_path / "one", config=mixture) == [0]
    assert ranks.train(tmp_path / "dealt", config={**mixture, "parallel": parallel}) == [0] * shards
    assert_same_run(tmp_path / "one", tmp_path / "dealt")
    whole = json.loads((tmp_path / "one" / "told-0.json").read_text())
    for number in range(shards):
        told = json.loads((tmp_path / "dealt" / f"told-{number}.json").read_text())
        assert max(told["bytes"] / whole["bytes"], told["optimizer_bytes"] / whole["optimizer_bytes"]) < 1.05 / shards


@pytest.mark.slow
def test_muon_trains_the_same_on_shares_of_a_matrix(ranks: Ranks, tmp_path: Path) -> None:
    muon = {"optimizer": "muon", "max_steps": 6}
    assert ranks.train(tmp_path / "one", config=muon) == [0]
    assert ranks.train(tmp_path / "four", TENSOR_AND_SHARDS, config=muon) == [0] * 4
    assert_same_run(tmp_path / "one", tmp_path / "four")


@pytest.mark.slow
@pytest.mark.parametrize("meshes", [(ALONE, COPIES, (1, 4, 1, 1)), (SHARDS, TENSOR_AND_SHARDS, PIPELINE)], ids=str)
def test_a_run_goes_on_with_another_mesh_each_time(
    meshes: tuple[Mesh, ...], ranks: Ranks, alone: Path, tmp_path: Path
) -> None:
    for mesh, stop in zip(meshes, (4, 9, 15), strict=True):
        statuses = ranks.train(tmp_path, mesh, stop_at=stop)
        assert all(os.WTERMSIG(status) == signal.SIGTERM for status in statuses[-1:]), statuses
        progress = read_progress(tmp_path)
        assert progress is not None and progress.done == stop
    assert ranks.train(tmp_path) == [0]
    assert_same_run(alone, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # by `no_dist`, as is meant
def test_torchs_own_reader_reads_a_checkpoint_in_shares(ranks: Ranks, tmp_path: Path) -> None:
    ranks.train(tmp_path, TENSOR_AND_SHARDS, config={"max_steps": 3})
    newest = progress_dir(tmp_path) / "checkpoints" / "step-000003"
    published = load_file(tmp_path / "state" / "model.safetensors")
    parts = tmp_path / "parts"
    parts.mkdir()
    for part in newest.glob("model-*.safetensors"):
        part.rename(parts / part.name)
    read = {name: torch.zeros_like(tensor) for name, tensor in published.items()}
    load(read, storage_reader=HuggingFaceStorageReader(str(parts)), no_dist=True)
    assert all(torch.equal(read[name], published[name]) for name in published)


@pytest.mark.slow
def test_a_share_that_is_missing_makes_a_checkpoint_damaged(ranks: Ranks, alone: Path, tmp_path: Path) -> None:
    ranks.train(tmp_path, SHARDS, stop_at=12)
    newest = progress_dir(tmp_path) / "checkpoints" / "step-000012"
    (newest / "optimizer-00002-of-00002.safetensors").unlink()
    assert ranks.train(tmp_path, SHARDS) == [0, 0]
    assert_same_run(alone, tmp_path)


@pytest.mark.slow
def test_a_run_killed_at_ten_steps_and_in_a_save_ends_in_the_same_bytes(ranks: Ranks, tmp_path: Path) -> None:
    exact = {"attention_dropout": 0.1, "micro_batch": 2, "checkpoint_every": 2, "max_steps": 24, "publish": "average"}
    assert ranks.train(tmp_path / "calm", config=exact) == [0]
    draws = random.Random(20261122)
    moments = sorted(draws.sample(range(1, 24), 10))
    for number, step in enumerate(moments):
        torn = {"kill_in_save": step + step % 2} if number % 3 == 2 else {"kill_at": step}
        assert ranks.train(tmp_path / "killed", config=exact, **torn) == [signal.SIGKILL], torn
    assert ranks.train(tmp_path / "killed", config=exact) == [0]
    assert published(tmp_path / "killed") == published(tmp_path / "calm")


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [COPIES, PIPELINE], ids=str)
def test_two_ranks_that_are_killed_go_on_in_the_same_bits(mesh: Mesh, ranks: Ranks, tmp_path: Path) -> None:
    exact = {"attention_dropout": 0.1, "max_steps": 12, "checkpoint_every": 3}
    assert ranks.train(tmp_path / "calm", mesh, config=exact) == [0, 0]
    assert ranks.train(tmp_path / "killed", mesh, config=exact, kill_at=7)[1] == signal.SIGKILL
    assert ranks.train(tmp_path / "killed", mesh, config=exact) == [0, 0]
    assert published(tmp_path / "killed") == published(tmp_path / "calm")


REFUSED = {
    "processes: 4 and the degrees of the mesh multiply to 6": {
        "processes": 4, "data_parallel_shard_degree": 3, "tensor_parallel_degree": 2,
    },
    "processes: 4 does not divide by 3": {"processes": 4, "data_parallel_replicate_degree": 3},
    "data_parallel_shard_degree: 0 is no degree": {"data_parallel_shard_degree": 0},
    "global_batch 4: no multiple of parallel's data_parallel degrees' product 3; 2 would do": {"processes": 3},
    "the size's 4 attention heads: no multiple of parallel's tensor_parallel_degree 3; 2 would do": {
        "processes": 3, "tensor_parallel_degree": 3,
    },
    "the size's 4 layers: no multiple of parallel's pipeline_parallel_degree 3": {
        "processes": 3, "pipeline_parallel_degree": 3,
    },
    "micro_batch 2 cuts the 1 sequences of a pipeline into 0.5 parts": {"processes": 8, "pipeline_parallel_degree": 2},
    "expert_parallel_degree: 3 with 4 shards": {"processes": 4, "expert_parallel_degree": 3},
    "nodes: 2 do not get equally many of 3 processes": {
        "processes": 3, "nodes": 2, "rendezvous_endpoint": "node-0:29500",
    },
    "rendezvous_endpoint: None with nodes 2": {"processes": 2, "nodes": 2},
}  # fmt: skip


@pytest.mark.parametrize("said", REFUSED)
def test_a_mesh_that_cannot_work_is_refused_before_anything_starts(said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PretrainConfig.model_validate({**CONFIG.model_dump(), "parallel": REFUSED[said]})


def test_a_mixture_of_experts_is_refused_in_stages_and_cut_blocks() -> None:
    for mesh in (TENSOR, PIPELINE):
        with pytest.raises(ValidationError, match=r"architecture 'mixtral' is not cut by .* set both to 1"):
            PretrainConfig.model_validate({**CONFIG.model_dump(), "architecture": "mixtral", "parallel": spread(mesh)})


def test_experts_that_are_not_there_are_not_dealt_out(inputs: Any, tmp_path: Path) -> None:
    parallel = {"processes": 4, "expert_parallel_degree": 4}
    config = PretrainConfig.model_validate({**CONFIG.model_dump(), "parallel": parallel})
    with pytest.raises(
        UserError, match="expert_parallel_degree: 4 does not divide the 1 experts in a block of 'llama'"
    ):
        pretrain(config, **inputs.named(), out=tmp_path)


def test_a_vocabulary_that_the_tensor_degree_does_not_divide_is_refused_before_a_process_starts(
    inputs: Any, tmp_path: Path
) -> None:
    config = PretrainConfig.model_validate({**CONFIG.model_dump(), "parallel": spread((1, 1, 1, 4))})
    with pytest.raises(
        UserError, match="degree: 4 does not divide the vocabulary of 262; 2 does, or train the tokenizer to 264"
    ):
        pretrain(config, **inputs.named(), out=tmp_path)
    assert not (progress_dir(tmp_path) / "processes").exists()


def test_fp8_is_refused_on_cut_matrices() -> None:
    with pytest.raises(ValidationError, match="dtype 'fp8' is not computed on matrices"):
        PretrainConfig.model_validate({**CONFIG.model_dump(), "dtype": "fp8", "parallel": spread(TENSOR)})


def test_the_mesh_is_not_in_the_key() -> None:
    spread_out = PretrainConfig.model_validate({**CONFIG.model_dump(), "parallel": spread(TENSOR_AND_SHARDS)})
    assert spread_out.identity() == CONFIG.identity()
    mixture = {**CONFIG.model_dump(), "architecture": "mixtral"}
    dealt = {**mixture, "parallel": {"processes": 2, "expert_parallel_degree": 2}}
    assert PretrainConfig.model_validate(dealt).identity() == PretrainConfig.model_validate(mixture).identity()
    on_gpus = {**CONFIG.model_dump(), "device": "cuda"}
    for mesh in ({"context_parallel_degree": 2}, {"engine": "deepspeed"}, {"engine": "deepspeed", "zero_stage": 1}):
        found = PretrainConfig.model_validate({**on_gpus, "parallel": {"processes": 2, **mesh}})
        assert found.identity() == PretrainConfig.model_validate(on_gpus).identity(), mesh


def test_a_shard_degree_of_minus_one_is_what_is_left_of_the_processes() -> None:
    assert ParallelConfig(processes=8, tensor_parallel_degree=2).sizes == (1, 1, 4, 2)
