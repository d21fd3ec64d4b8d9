import random
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.pretraining.checkpoint import DamagedCheckpoint, Snapshot, check_files, read_files, write_files
from pipelines.pretraining.rng import restore_rng, rng_tensors, seed_all


def snapshot(step: int) -> Snapshot:
    tensors = {"weight": torch.full((3, 2), float(step)), "count": torch.tensor(float(step))}
    groups = {"model": tensors, "optimizer": tensors, "rng": rng_tensors()}
    return Snapshot(groups, {"step": step}, [{"step": step, "loss": 0.1}])


def test_a_snapshot_comes_back_as_it_was(tmp_path: Path) -> None:
    write_files(tmp_path / "one", snapshot(3))
    back = read_files(tmp_path / "one")
    assert back.facts == {"step": 3} and back.curve == [{"step": 3, "loss": 0.1}]
    assert torch.equal(back.tensors["model"]["weight"], torch.full((3, 2), 3.0))
    assert back.tensors["optimizer"]["count"].shape == ()


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    write_files(tmp_path / "one", snapshot(3))
    assert {path.suffix for path in (tmp_path / "one").iterdir()} == {".safetensors", ".json", ".jsonl"}


@pytest.mark.parametrize("missing", ["model.safetensors", "curve.jsonl", "digests.json"])
def test_a_checkpoint_with_a_file_missing_is_damaged(missing: str, tmp_path: Path) -> None:
    write_files(tmp_path / "one", snapshot(3))
    (tmp_path / "one" / missing).unlink()
    with pytest.raises(DamagedCheckpoint):
        check_files(tmp_path / "one")


def test_all_generators_go_on_where_they_were() -> None:
    seed_all(5)
    random.gauss(0, 1)
    np.random.standard_normal()
    states = rng_tensors()

    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), np.random.standard_normal(), float(torch.rand(()))]

    first = draw()
    seed_all(6)
    restore_rng(states)
    assert draw() == first
