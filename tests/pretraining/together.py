"""Runs of one to four processes that a warm one forks, and what two runs must have alike."""

import json
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipelines.pretraining.mesh import ParallelConfig
from pipelines.pretraining.pretrain import PretrainConfig

ROOT = Path(__file__).resolve().parents[2]
CONFIG = PretrainConfig(
    size="smoke",
    sequence_length=16,
    global_batch=4,
    micro_batch=2,
    max_steps=20,
    warmup_steps=2,
    heldout_every=10,
    heldout_sequences=2,
    checkpoint_every=5,
    publish="average",
)


ALONE, COPIES, SHARDS = (1, 1, 1, 1), (1, 2, 1, 1), (1, 1, 2, 1)
"""Meshes by their degrees: pipeline stages, copies, shards, tensor parallel."""
Mesh = tuple[int, int, int, int]


def spread(mesh: Mesh) -> dict[str, int]:
    """The config of a mesh."""
    return {"processes": prod(mesh), **dict(zip(ParallelConfig.degrees, mesh, strict=False))}


@dataclass
class Ranks:
    """A process that has imported torch and forks the ranks of a run."""

    process: subprocess.Popen[str]
    inputs: dict[str, str]

    def train(self, out: Path, mesh: Mesh = ALONE, **request: Any) -> list[int]:
        """Return how each rank ended, 0 for well."""
        out.mkdir(exist_ok=True, parents=True)
        config = {**CONFIG.model_dump(mode="json"), "parallel": spread(mesh)}
        config |= request.pop("config", {})
        store = out / f"store-{len(list(out.glob('store-*')))}"
        line = {"config": config, "inputs": self.inputs, "out": str(out), "store": str(store), **request}
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        return list(json.loads(self.process.stdout.readline())["statuses"])


def curve(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "curve" / "curve.jsonl").read_text().splitlines()]


def assert_same_run(one: Path, other: Path) -> None:
    assert len(curve(one)) == len(curve(other))
    for row, expected in zip(curve(other), curve(one), strict=True):
        assert row == pytest.approx(expected, rel=2e-5, abs=1e-5)
        assert abs(row["loss"] - expected["loss"]) < 1e-5, row["step"]
    for file in ("state/model.safetensors", "state/averages.safetensors", "model/model.safetensors"):
        expected = load_file(one / file)
        for name, tensor in load_file(other / file).items():
            torch.testing.assert_close(tensor, expected[name], atol=1e-4, rtol=1e-4)


def published(out: Path) -> dict[str, str]:
    """The digests of weights, state and loss rows."""
    files = [path for name in ("model", "state", "curve") for path in sorted((out / name).rglob("*"))]
    return {str(path.relative_to(out)): sha256(path.read_bytes()).hexdigest() for path in files}
