"""What a run tells of itself while it lasts: rates and memory, which depend on the machine and are no result."""

import json
import resource
import time
from pathlib import Path

import torch

from pipelines.pretraining.settings import LoopConfig


class RateLog:
    """Appends a line of tokens a second to `log/rates.jsonl` every few steps."""

    def __init__(self, folder: Path, every: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.every = folder / "rates.jsonl", every
        self._since, self._tokens = time.monotonic(), 0

    def count(self, step: int, tokens: int) -> None:
        """Count the tokens of a step."""
        self._tokens += tokens
        if step % self.every:
            return
        now = time.monotonic()
        seconds = now - self._since
        row = {"step": step, "seconds": round(seconds, 3), "tokens_per_second": round(self._tokens / seconds, 1)}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._since, self._tokens = now, 0


def write_machine(folder: Path, config: LoopConfig) -> None:
    """Write what the run ran on and how much memory it took at most."""
    facts = {
        "device": torch.cuda.get_device_name() if config.device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "micro_batch": config.micro_batch,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    if config.device == "cuda":
        facts["peak_device_memory_bytes"] = torch.cuda.max_memory_allocated()
    (folder / "machine.json").write_text(json.dumps(facts, indent=1) + "\n")
