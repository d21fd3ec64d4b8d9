"""Checkpoints that are written beside the training: whole or not at all, and never lost unasked."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.artifacts.errors import UserError
from pipelines.pretraining import saving
from pipelines.pretraining.checkpoint import Snapshot, write_files
from pipelines.pretraining.rng import rng_tensors
from pipelines.pretraining.saving import Checkpoints
from tests.pretraining.test_checkpoint import snapshot


def saved(folder: Path, *steps: int, keep: int = 2) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep)
    for step in steps:
        checkpoints.save(step, snapshot(step))
    checkpoints.settle(now=True)
    return checkpoints


def damage(folder: Path) -> None:
    (folder / "digests.json").write_text("[]")


def test_a_save_holds_the_state_of_its_moment_while_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()

    def slow(*arguments: Any) -> None:
        assert free.wait(timeout=60)
        write_files(*arguments)

    monkeypatch.setattr(saving, "write_files", slow)
    checkpoints = Checkpoints(tmp_path, keep=2)
    weight = torch.zeros(4)
    checkpoints.save(1, Snapshot({"model": {"weight": weight}, "rng": rng_tensors()}, {"step": 1}))
    weight += 1  # the next step
    assert checkpoints.settle() is None and checkpoints.steps() == []
    free.set()
    assert checkpoints.settle(now=True) == 1
    newest = checkpoints.newest()
    assert newest is not None and torch.equal(newest.tensors["model"]["weight"], torch.zeros(4))


def test_a_save_waits_for_the_one_before(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    assert checkpoints.save(1, snapshot(1)) is None
    assert checkpoints.save(2, snapshot(2)) == 1
    assert checkpoints.finish(2, "pretrain") == 2
    assert checkpoints.steps() == [1, 2]


def test_what_a_killed_process_left_unfinished_is_removed(tmp_path: Path) -> None:
    write_files(tmp_path / "step-000005.tmp", snapshot(5))
    assert Checkpoints(tmp_path, keep=2).newest() is None and not list(tmp_path.iterdir())


def test_a_checkpoint_that_was_about_to_be_replaced_comes_back(tmp_path: Path) -> None:
    write_files(tmp_path / "step-000005.old", snapshot(5))
    assert Checkpoints(tmp_path, keep=2).steps() == [5]


def test_the_one_before_is_taken_where_the_newest_is_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = saved(tmp_path, 4, 6)
    damage(tmp_path / "step-000006")
    newest = checkpoints.newest()
    assert newest is not None and newest.facts == {"step": 4}
    assert "step-000006 is damaged" in caplog.text


def test_a_run_whose_checkpoints_are_all_damaged_never_starts_afresh_by_itself(tmp_path: Path) -> None:
    saved(tmp_path, 4, 6)
    damage(tmp_path / "step-000004")
    damage(tmp_path / "step-000006")
    for _ in range(2):  # asked again it says the same
        with pytest.raises(UserError, match=r"all in .* are damaged; put a sound copy there, or remove that folder"):
            Checkpoints(tmp_path, keep=2).newest()


def test_checkpoints_that_the_user_removed_are_no_reason_to_stop(tmp_path: Path) -> None:
    saved(tmp_path / "checkpoints", 4)
    (tmp_path / "checkpoints" / "step-000004").rename(tmp_path / "elsewhere")
    assert Checkpoints(tmp_path / "checkpoints", keep=2).newest() is None


FULL = """
import logging, resource, sys
from pathlib import Path
import torch
from pipelines.artifacts.errors import StageFailed
from pipelines.pretraining.checkpoint import Snapshot
from pipelines.pretraining.saving import Checkpoints

def state(step, size):
    return Snapshot({"model": {"weight": torch.full((size,), float(step))}}, {"step": step})

checkpoints = Checkpoints(Path(sys.argv[1]), keep=2)
checkpoints.save(1, state(1, 100))
assert checkpoints.settle(now=True) == 1
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # from here on the disk takes no large file
checkpoints.save(2, state(2, 100_000))
assert checkpoints.settle(now=True) is None, "training goes on"
checkpoints.save(3, state(3, 100))
assert checkpoints.settle(now=True) == 3
checkpoints.save(4, state(4, 100_000))
try:
    checkpoints.finish(4, "pretrain")
except StageFailed as error:
    print(error)
print(checkpoints.newest().facts["step"], checkpoints.steps())
"""


def test_a_full_disk_costs_one_checkpoint_and_no_earlier_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    said, last = done.stdout.splitlines()
    assert "the checkpoint after step 4 could not be written" in said and "free some space and run again" in said
    assert last == "3 [1, 3]"
    assert "checkpoint step-000002 could not be written" in done.stderr
    assert not list(tmp_path.glob("*.tmp"))


def test_an_error_that_is_not_the_disks_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise TypeError("a tensor of strings")

    monkeypatch.setattr(saving, "write_files", broken)
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, snapshot(1))
    with pytest.raises(TypeError, match="a tensor of strings"):
        checkpoints.settle(now=True)
