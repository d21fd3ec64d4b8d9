"""Pre-training on an accelerator: the same loop, bf16, and a loss that falls."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pipelines.pretraining.pretrain import PretrainConfig, pretrain

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", ["bf16", "fp32", "fp16", "fp8"])
def test_a_small_text_is_learnt_on_a_gpu(dtype: str, inputs: Any, tmp_path: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device is here")
    config = PretrainConfig(
        size="tiny", sequence_length=64, global_batch=8, max_steps=60, warmup_steps=5, dtype=dtype, device="cuda"
    )
    metrics = pretrain(config, **inputs.named(), out=tmp_path)
    assert metrics["loss"] < 1.0 and metrics["skipped_steps"] == 0


@pytest.mark.parametrize(
    "parallel",
    [
        {"processes": 1, "cpu_offload": True},
        {"processes": 2},
        {"processes": 2, "tensor_parallel_degree": 2},
        {"processes": 2, "pipeline_parallel_degree": 2},
        {"processes": 4, "data_parallel_replicate_degree": 2, "cpu_offload": True},
        {"processes": 4, "tensor_parallel_degree": 2},
        {"processes": 2, "context_parallel_degree": 2},
        {"processes": 4, "context_parallel_degree": 2},
        *(
            pytest.param(
                {"processes": 2, "engine": "deepspeed", "zero_stage": stage},
                marks=pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed"),
            )
            for stage in (1, 2, 3)
        ),
    ],
    ids=str,
)
def test_a_mesh_of_gpus_learns_a_small_text(parallel: dict[str, Any], inputs: Any, tmp_path: Path) -> None:
    import torch

    if torch.cuda.device_count() < parallel["processes"]:
        pytest.skip(f"{torch.cuda.device_count()} CUDA devices are here")
    config = PretrainConfig.model_validate(
        {
            **{"size": "smoke", "sequence_length": 64, "global_batch": 8, "micro_batch": 2, "max_steps": 60},
            **{"warmup_steps": 5, "dtype": "bf16", "device": "cuda", "parallel": parallel},
        }
    )
    metrics = pretrain(config, **inputs.named(), out=tmp_path)
    assert metrics["loss"] < 1.0 and metrics["skipped_steps"] == 0
