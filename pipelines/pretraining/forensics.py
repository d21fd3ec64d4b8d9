"""What is kept of a step that stood out, for those who look for the cause: its figures, its batch, its documents."""

import json
import math
import shutil
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import save_file
from torch import Tensor

from pipelines.pretraining.position import Position
from pipelines.pretraining.spikes import Fault

MOST = 20
"""Bundles kept of one run: a run that goes wrong for good would fill the disk."""


@runtime_checkable
class Traced(Protocol):
    """An objective whose batches can be traced to documents."""

    def next_sample(self, step: int) -> int:
        """Return the global number of the first sample of a batch."""
        ...

    def document_ids(self, step: int) -> list[str]:
        """Return the documents that a batch holds tokens of."""
        ...


def write_bundle(
    folder: Path,
    fault: Fault,
    position: Position,
    batch: tuple[Tensor, Tensor],
    objective: object,
    *,
    lr: float,
    action: str,
) -> Path | None:
    """Write `spike.json` and `batch.safetensors` of the batch below `folder`; return where, or None if it is full.

    A run that is killed and taken up writes the same files again.
    """
    bundle = folder / f"batch-{position.batch:08d}"
    if not bundle.exists() and len(list(folder.glob("batch-*"))) >= MOST:
        return None
    facts: dict[str, Any] = {
        "kind": fault.kind,
        "action": action,
        "step": position.step + 1,
        "batch": position.batch,
        "lr": lr,
        **{name: value if math.isfinite(value) else str(value) for name, value in fault.figures.items()},
        "window": fault.window,
    }
    if isinstance(objective, Traced):
        first, end = objective.next_sample(position.batch), objective.next_sample(position.batch + 1)
        facts["samples"] = [first, end - 1]
        facts["documents"] = objective.document_ids(position.batch)
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir(parents=True)
    inputs, targets = (part.to(torch.int32).contiguous() for part in batch)
    save_file({"inputs": inputs, "targets": targets}, bundle / "batch.safetensors")
    (bundle / "spike.json").write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n")
    return bundle
