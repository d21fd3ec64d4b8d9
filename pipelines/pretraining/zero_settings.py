"""What DeepSpeed is told of a run, made from the same settings that FSDP2 reads; no DeepSpeed is needed for it."""

from typing import Any

from pipelines.pretraining.mesh import ParallelConfig
from pipelines.pretraining.settings import LoopConfig

FILE = "deepspeed.json"
"""Its name in the log of a run."""
SMALL = 10
"""Weights with fewer entries than this many times the width stay whole in all processes, as transformers has it."""


def zero_settings(config: LoopConfig, parallel: ParallelConfig, width: int) -> dict[str, Any]:
    """Return DeepSpeed's configuration for a model of this width; what it does not name is as DeepSpeed has it.

    The optimizer is ours, so it is not named. Gradients are summed in fp32 whatever the arithmetic of the products.
    """
    rows = config.global_batch // parallel.data_degree
    zero: dict[str, Any] = {"stage": parallel.stage_of_zero, "contiguous_gradients": True, "overlap_comm": False}
    if parallel.stage_of_zero == 3:
        zero["stage3_param_persistence_threshold"] = SMALL * width
    if parallel.cpu_offload:
        host = {"device": "cpu", "pin_memory": config.device == "cuda"}
        zero["offload_optimizer"] = host
        if parallel.stage_of_zero == 3:
            zero["offload_param"] = host
    return {
        "train_micro_batch_size_per_gpu": min(config.micro_batch, rows),
        "gradient_accumulation_steps": -(-rows // config.micro_batch),
        "gradient_clipping": config.clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "torch_autocast": {"enabled": config.dtype == "bf16", "dtype": "bfloat16"},
        "communication_data_type": "fp32",
        "steps_per_print": None,
    }
