"""Checkpoints: folders of safetensors and JSON that appear whole or not at all, and are checked before use."""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pipelines.artifacts.curve import Row, as_lines
from pipelines.artifacts.pins import file_digest
from pipelines.artifacts.work import fsync_dir

logger = logging.getLogger(__name__)

FACTS, CURVE, DIGESTS = "state.json", "curve.jsonl", "digests.json"
TENSORS = ("model", "optimizer", "rng", "averages")

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Snapshot:
    """The whole state of a run between two steps."""

    model: Tensors
    optimizer: Tensors
    rng: Tensors
    facts: dict[str, Any]
    """Counters and what the run is, as JSON values."""
    curve: list[Row] = field(default_factory=list)
    averages: Tensors = field(default_factory=dict)
    """Further copies of the weights, as averaging.py names them."""


class DamagedCheckpoint(Exception):
    """A checkpoint's files are not those that were written."""


def write_files(folder: Path, snapshot: Snapshot) -> None:
    """Write a snapshot's files into a new folder, each flushed to the disk, and last their digests."""
    folder.mkdir(parents=True)
    held_tensors = (snapshot.model, snapshot.optimizer, snapshot.rng, snapshot.averages)
    for name, tensors in zip(TENSORS, held_tensors, strict=True):
        held = {key: tensors[key].detach().contiguous() for key in sorted(tensors)}
        save_file(held, folder / f"{name}.safetensors", metadata={"format": "pt"})
    (folder / FACTS).write_text(json.dumps(snapshot.facts, indent=1, sort_keys=True) + "\n")
    (folder / CURVE).write_text(as_lines(snapshot.curve))
    digests = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
    (folder / DIGESTS).write_text(json.dumps(digests, indent=1) + "\n")
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    fsync_dir(folder)


def read_files(folder: Path) -> Snapshot:
    """Return the snapshot that `write_files` wrote; raise DamagedCheckpoint when a file is not as it was written."""
    try:
        digests: Mapping[str, str] = json.loads((folder / DIGESTS).read_text())
        for name, digest in digests.items():
            if file_digest(folder / name) != digest:
                raise DamagedCheckpoint(f"{folder / name} is not as it was written")
        facts = json.loads((folder / FACTS).read_text())
        curve = [json.loads(line) for line in (folder / CURVE).read_text().splitlines()]
        model, optimizer, rng, averages = (load_file(folder / f"{name}.safetensors") for name in TENSORS)
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        raise DamagedCheckpoint(f"{folder}: {error}") from error
    return Snapshot(model, optimizer, rng, facts, curve, averages)


class Checkpoints:
    """The checkpoints of one run, the newest `keep` of them."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob("*.tmp"):
            shutil.rmtree(unfinished)

    def all(self) -> list[Path]:
        """Return the folders of whole checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*[0-9]"), key=lambda path: int(path.name.removeprefix("step-")))

    def save(self, step: int, snapshot: Snapshot) -> None:
        """Publish the state after `step` steps in one rename, then remove the oldest."""
        final = self.folder / f"step-{step:06d}"
        fresh = final.with_name(f"{final.name}.tmp")
        write_files(fresh, snapshot)
        if final.exists():
            self._remove(final)
        fresh.rename(final)
        fsync_dir(self.folder)
        for old in self.all()[: -self.keep]:
            self._remove(old)

    def remove_after(self, step: int) -> None:
        """Remove the states of later steps, which belong to another course of the run."""
        for folder in self.all():
            if int(folder.name.removeprefix("step-")) > step:
                self._remove(folder)

    def newest(self) -> Snapshot | None:
        """Return the newest snapshot whose files are as written; say and remove what is damaged."""
        for folder in reversed(self.all()):
            try:
                return read_files(folder)
            except DamagedCheckpoint as error:
                logger.warning("checkpoint %s is damaged (%s); going back to the one before", folder.name, error)
                self._remove(folder)
        return None

    def _remove(self, folder: Path) -> None:
        doomed = folder.rename(folder.with_name(f"{folder.name}.old.tmp"))
        shutil.rmtree(doomed)
