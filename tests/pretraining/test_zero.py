"""DeepSpeed's ZeRO trains what one process trains, with shares of the state, and its checkpoints are ours."""

import json
import os
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.work import progress_dir
from pipelines.pretraining.mesh import ParallelConfig
from pipelines.pretraining.pretrain import PretrainConfig, pretrain
from pipelines.pretraining.zero_settings import zero_settings
from tests.pretraining.together import CONFIG, SHARDS, Ranks, assert_same_run, curve, published

deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed (extra `deepspeed`)")


def zero(stage: int, processes: int = 2, **changes: Any) -> dict[str, Any]:
    """The config of a run that DeepSpeed takes the steps of."""
    changes = {"publish": "last", **changes} if stage == 3 else changes
    offload = changes.pop("cpu_offload", False)
    mesh = {"engine": "deepspeed", "zero_stage": stage, "processes": processes, "cpu_offload": offload}
    return {**changes, "parallel": mesh}


@pytest.fixture(scope="module")
def last(ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process's run that publishes its last weights."""
    out = tmp_path_factory.mktemp("last")
    assert ranks.train(out, config={"publish": "last"}) == [0]
    return out


@deepspeed
@pytest.mark.parametrize(
    ("stage", "processes", "offload"),
    [
        (2, 2, False),
        pytest.param(1, 2, False, marks=pytest.mark.slow),
        pytest.param(2, 4, False, marks=pytest.mark.slow),
        pytest.param(2, 2, True, marks=pytest.mark.slow),
        pytest.param(3, 2, False, marks=pytest.mark.slow),
        pytest.param(3, 2, True, marks=pytest.mark.slow),
    ],
)
def test_zero_trains_what_one_process_trains(
    stage: int, processes: int, offload: bool, ranks: Ranks, last: Path, tmp_path: Path
) -> None:
    config = zero(stage, processes, publish="last", cpu_offload=offload)
    assert ranks.train(tmp_path, config=config) == [0] * processes
    assert_same_run(last, tmp_path)
    told = [json.loads((tmp_path / f"told-{number}.json").read_text()) for number in range(processes)]
    whole = json.loads((last / "told-0.json").read_text())
    assert max(rank["optimizer_bytes"] for rank in told) < 1.05 * whole["optimizer_bytes"] / processes
    weights = whole["bytes"] / processes if stage == 3 else whole["bytes"]
    assert max(rank["bytes"] for rank in told) < 1.05 * weights
    assert json.loads((tmp_path / "log" / "deepspeed.json").read_text())["zero_optimization"]["stage"] == stage
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pt", ".bin", ".pkl")]


@deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_ranks_of_deepspeed_that_are_killed_go_on_in_the_same_bits(stage: int, ranks: Ranks, tmp_path: Path) -> None:
    exact = zero(stage, attention_dropout=0.1, max_steps=12, checkpoint_every=3, publish="last")
    assert ranks.train(tmp_path / "calm", config=exact) == [0, 0]
    assert ranks.train(tmp_path / "killed", config=exact, kill_at=7)[1] == signal.SIGKILL
    assert ranks.train(tmp_path / "killed", config=exact) == [0, 0]
    assert published(tmp_path / "killed") == published(tmp_path / "calm")


@deepspeed
@pytest.mark.slow
def test_a_run_goes_from_deepspeed_to_fsdp2_and_to_one_process(ranks: Ranks, alone: Path, tmp_path: Path) -> None:
    for request, stop in (({"config": zero(2)}, 6), ({"mesh": SHARDS}, 12), ({}, None)):
        statuses = ranks.train(tmp_path, **request, **({"stop_at": stop} if stop else {}))  # type: ignore[arg-type]
        ended = os.WTERMSIG(statuses[-1])
        assert ended == (signal.SIGTERM if stop else 0), statuses
    assert_same_run(alone, tmp_path)


@deepspeed
@pytest.mark.slow
def test_a_step_that_is_left_out_leaves_the_weights_of_deepspeed_alone(ranks: Ranks, tmp_path: Path) -> None:
    wild = {"spikes": {"on_spike": "skip", "sigmas": 0.5, "window": 8}, "publish": "last"}
    assert ranks.train(tmp_path / "one", config=wild) == [0]
    assert ranks.train(tmp_path / "zero", config=zero(2, **wild)) == [0, 0]
    one, two = (json.loads((tmp_path / name / "told-0.json").read_text())["metrics"] for name in ("one", "zero"))
    assert one["skipped_steps"] == two["skipped_steps"] > 0
    assert_same_run(tmp_path / "one", tmp_path / "zero")


@deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("offload", [False, True], ids=["", "offload"])
def test_a_gradient_that_is_no_number_is_left_out(stage: int, offload: bool, ranks: Ranks, tmp_path: Path) -> None:
    short = {"publish": "last", "max_steps": 6}
    assert ranks.train(tmp_path / "one", config=short, nan_at=2) == [0]
    assert ranks.train(tmp_path / "zero", config=zero(stage, cpu_offload=offload, **short), nan_at=2) == [0, 0]
    told = json.loads((tmp_path / "zero" / "told-0.json").read_text())
    assert told["metrics"]["skipped_steps"] == 1
    assert_same_run(tmp_path / "one", tmp_path / "zero")


@deepspeed
@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "changes"),
    [(2, {"optimizer": "lion", "lr": 2e-4}), (2, {"architecture": "bert"}), (1, {"architecture": "gpt2"})],
    ids=str,
)
def test_other_optimizers_and_architectures_are_deepspeeds_as_well(
    stage: int, changes: dict[str, Any], ranks: Ranks, tmp_path: Path
) -> None:
    short = {"publish": "last", "max_steps": 6, **changes}
    assert ranks.train(tmp_path / "one", config=short) == [0]
    assert ranks.train(tmp_path / "zero", config=zero(stage, **short)) == [0, 0]
    assert_same_run(tmp_path / "one", tmp_path / "zero")


@deepspeed
@pytest.mark.slow
def test_ranks_of_deepspeed_are_started_by_torchrun(inputs: Any, tmp_path: Path) -> None:
    config = PretrainConfig.model_validate({**CONFIG.model_dump(), **zero(2, max_steps=4)})
    assert pretrain(config, **inputs.named(), out=tmp_path)["steps"] == 4
    assert len(list((progress_dir(tmp_path) / "checkpoints" / "step-000004").glob("model-*-of-00002.safetensors"))) == 2


@deepspeed
@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_computes_in_bf16(stage: int, ranks: Ranks, tmp_path: Path) -> None:
    half = {"dtype": "bf16", "max_steps": 4, "heldout_every": 4, "publish": "last"}
    assert ranks.train(tmp_path / "one", config=half) == [0]
    assert ranks.train(tmp_path / "zero", config=zero(stage, **half)) == [0, 0]
    for row, expected in zip(curve(tmp_path / "zero"), curve(tmp_path / "one"), strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=5e-3)


def test_deepspeeds_settings_are_made_from_the_runs() -> None:
    config = CONFIG.model_copy(update={"dtype": "bf16", "micro_batch": 1})
    parallel = ParallelConfig(engine="deepspeed", zero_stage=3, processes=2, cpu_offload=True)
    host = {"device": "cpu", "pin_memory": False}
    assert zero_settings(config, parallel, width=128) == {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 2,
        "gradient_clipping": 1.0,
        "zero_optimization": {
            "stage": 3,
            "contiguous_gradients": True,
            "overlap_comm": False,
            "stage3_param_persistence_threshold": 1280,
            "offload_optimizer": host,
            "offload_param": host,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "torch_autocast": {"enabled": True, "dtype": "bfloat16"},
        "communication_data_type": "fp32",
        "steps_per_print": None,
    }


REFUSED = {
    "zero_stage: 2 is for the engine 'deepspeed' and this is 'torch'": {"zero_stage": 2},
    "engine: 'deepspeed' shares one copy out to all 4 processes .*tensor_parallel_degree 2": {
        "engine": "deepspeed", "processes": 4, "tensor_parallel_degree": 2,
    },
    "engine: 'deepspeed' shares one copy out .*context_parallel_degree 2": {
        "engine": "deepspeed", "processes": 4, "context_parallel_degree": 2,
    },
    "expert_parallel_degree: 2 is for the engine 'torch'": {
        "engine": "deepspeed", "processes": 2, "expert_parallel_degree": 2,
    },
    "less than or equal to 3": {"engine": "deepspeed", "zero_stage": 4},
}  # fmt: skip


@pytest.mark.parametrize("said", REFUSED)
def test_a_mesh_that_is_not_deepspeeds_is_refused_with_the_config(said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PretrainConfig.model_validate({**CONFIG.model_dump(), "parallel": REFUSED[said]})


@pytest.mark.parametrize(
    ("stage", "changes", "remedy"),
    [
        (2, {"architecture": "mixtral"}, "architecture: 'mixtral' and .* or parallel's engine to 'torch'"),
        (2, {"optimizer": "muon"}, "optimizer: 'muon' and .* set it to 'adamw' or 'lion'"),
        (2, {"dtype": "fp16"}, "dtype: 'fp16' and .* set it to 'bf16' or 'fp32'"),
        (2, {"compile": "always"}, "compile: 'always' and .* set it to 'never'"),
        (3, {"architecture": "bert"}, "architecture: 'bert' and .* or zero_stage to 2"),
        (3, {"objective": "prefix_lm"}, "objective: 'prefix_lm' and .* or zero_stage to 2"),
        (3, {"publish": "average"}, "publish: 'average' and .* set it to 'last', or zero_stage to 2"),
    ],
    ids=str,
)
def test_what_deepspeed_is_not_made_for_is_refused_before_anything_starts(
    stage: int, changes: dict[str, Any], remedy: str, inputs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.pretraining.spread_combination.find_spec", lambda name: name)
    config = PretrainConfig.model_validate({**CONFIG.model_dump(), **zero(stage, **changes)})
    with pytest.raises(UserError, match=remedy):
        pretrain(config, **inputs.named(), out=tmp_path)
    assert not progress_dir(tmp_path).exists() or not any(progress_dir(tmp_path).iterdir())


def test_deepspeed_that_is_not_installed_is_named(inputs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.pretraining.spread_combination.find_spec", lambda name: None)
    config = PretrainConfig.model_validate({**CONFIG.model_dump(), **zero(2)})
    with pytest.raises(UserError, match="engine: 'deepspeed' needs the package deepspeed; pip install"):
        pretrain(config, **inputs.named(), out=tmp_path)
