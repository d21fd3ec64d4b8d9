"""What a run takes of its machine: memory, how much of it lies waste, and what the machine is."""

import json
import resource
from pathlib import Path

import torch

from pipelines.artifacts.curve import Row
from pipelines.pretraining.settings import LoopConfig


def memory(device: str) -> Row:
    """Return the most memory taken so far in bytes; on a GPU also what its allocator holds, and the unused share of it.

    On a CPU it is the process's resident memory, whose allocator tells nothing of waste.
    """
    if device == "cpu":
        return {"peak_memory_bytes": float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)}
    reserved = torch.cuda.memory_reserved()
    return {
        "peak_memory_bytes": float(torch.cuda.max_memory_allocated()),
        "reserved_memory_bytes": float(reserved),
        "fragmentation": 1 - torch.cuda.memory_allocated() / reserved if reserved else 0.0,
    }


def write_machine(folder: Path, config: LoopConfig, peak: float | None) -> None:
    """Write what the run ran on, the memory it took, and the peak that MFU is a share of, where it was measured."""
    facts = {
        "device": torch.cuda.get_device_name() if config.device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "micro_batch": config.micro_batch,
        "matmul_peak_flops": peak,
        **memory(config.device),
    }
    (folder / "machine.json").write_text(json.dumps(facts, indent=1) + "\n")
