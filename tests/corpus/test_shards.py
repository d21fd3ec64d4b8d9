"""Sharded work: what is finished stays, what is damaged is redone, and the number of workers changes nothing."""

import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from pipelines.artifacts.build import is_full_disk
from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.work import atomic_file, read_progress
from pipelines.corpus.shard_step import committed
from pipelines.corpus.shards import run_shards


def write_number(out: Path, index: int) -> dict[str, int]:
    with atomic_file(out / "documents" / f"part-{index:05d}.txt", out) as fresh:
        fresh.write_text(f"shard {index}")
    with (out / "calls").open("a") as calls:
        calls.write(f"{index}\n")
    return {"in": index, "kept": 1}


def fail_at_two(out: Path, error: type[Exception], index: int) -> dict[str, int]:
    if index == 2:
        raise error("no such luck")
    return write_number(out, index)


def fail_before_eight(out: Path, index: int) -> dict[str, int]:
    if index < 8:
        raise ValueError("no such luck")
    return write_number(out, index)


def fill_the_disk(out: Path, index: int) -> dict[str, int]:
    if index == 2:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return write_number(out, index)


def die_at_two(out: Path, index: int) -> dict[str, int]:
    if index == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return write_number(out, index)


def calls(out: Path) -> list[int]:
    return sorted(int(line) for line in (out / "calls").read_text().split())


@pytest.mark.parametrize("workers", [1, 2])
def test_counts_of_all_shards_are_summed(tmp_path: Path, workers: int) -> None:
    counts = run_shards(partial(write_number, tmp_path), 4, out=tmp_path, workers=workers, what="numbers")
    assert counts == {"in": 6, "kept": 4}
    progress = read_progress(tmp_path)
    assert progress is not None
    assert (progress.done, progress.total, progress.unit) == (4, 4, "shards")


def test_no_shards_make_no_counts(tmp_path: Path) -> None:
    assert run_shards(partial(write_number, tmp_path), 0, out=tmp_path, workers=1, what="numbers") == {}


def test_a_rerun_does_only_shards_whose_files_are_missing_or_damaged(tmp_path: Path) -> None:
    work = partial(write_number, tmp_path)
    first = run_shards(work, 4, out=tmp_path, workers=1, what="numbers")
    (tmp_path / "documents" / "part-00001.txt").write_text("damaged")
    (tmp_path / "documents" / "part-00003.txt").unlink()
    assert run_shards(work, 4, out=tmp_path, workers=1, what="numbers") == first
    assert calls(tmp_path) == [0, 1, 1, 2, 3, 3]
    assert (tmp_path / "documents" / "part-00001.txt").read_text() == "shard 1"


def test_markers_of_datatrove_decide_nothing(tmp_path: Path) -> None:
    work = partial(write_number, tmp_path)
    run_shards(work, 2, out=tmp_path, workers=1, what="numbers")
    (tmp_path / ".progress" / "shards" / "00001.json").write_text("{")
    assert committed(tmp_path, 1) is None
    run_shards(work, 2, out=tmp_path, workers=1, what="numbers")
    assert calls(tmp_path) == [0, 1, 1]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_shard_is_named_the_others_are_done_and_a_rerun_does_only_it(tmp_path: Path, workers: int) -> None:
    with pytest.raises(
        StageFailed, match=r"numbers: shard 2 of 5 failed \(ValueError: no such luck\); 4 are finished and stay"
    ):
        run_shards(partial(fail_at_two, tmp_path, ValueError), 5, out=tmp_path, workers=workers, what="numbers")
    assert calls(tmp_path) == [0, 1, 3, 4]
    assert committed(tmp_path, 2) is None
    counts = run_shards(partial(write_number, tmp_path), 5, out=tmp_path, workers=workers, what="numbers")
    assert counts == {"in": 10, "kept": 5}
    assert calls(tmp_path) == [0, 1, 2, 3, 4]


def test_many_failed_shards_are_counted(tmp_path: Path) -> None:
    expected = r"shard 0 of 9 failed .*; shards 1, 2, 3, 4, 5 and 2 more failed too; 1 are finished and stay"
    with pytest.raises(StageFailed, match=expected):
        run_shards(partial(fail_before_eight, tmp_path), 9, out=tmp_path, workers=1, what="numbers")


def test_a_users_mistake_stays_a_users_mistake_and_ends_the_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such luck"):
        run_shards(partial(fail_at_two, tmp_path, UserError), 5, out=tmp_path, workers=1, what="numbers")
    assert calls(tmp_path) == [0, 1]


def test_a_full_disk_ends_the_work(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="No space left") as caught:
        run_shards(partial(fill_the_disk, tmp_path), 5, out=tmp_path, workers=1, what="numbers")
    assert is_full_disk(caught.value)
    assert calls(tmp_path) == [0, 1]


def test_a_shard_that_kills_its_worker_is_named_and_costs_no_other(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"numbers: shard 2 of 5 failed \(its process died.*fewer workers"):
        run_shards(partial(die_at_two, tmp_path), 5, out=tmp_path, workers=2, what="numbers")
    assert set(calls(tmp_path)) == {0, 1, 3, 4}  # one that was under way in the pool that broke is begun again


SLOW = """
import sys, time
from functools import partial
from pathlib import Path
from pipelines.artifacts.work import atomic_file
from pipelines.corpus.shards import run_shards

def slow(out, index):
    (out / f"started-{index}").write_text(str(__import__("os").getpid()))
    time.sleep(0.0 if index == 0 else 60)
    return {"kept": 1} if (out / "documents").mkdir(exist_ok=True) is None else {}

if __name__ == "__main__":
    run_shards(partial(slow, Path(sys.argv[1])), 3, out=Path(sys.argv[1]), workers=2, what="slow")
"""


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_workers_die_with_a_killed_parent_and_the_rerun_finishes(tmp_path: Path) -> None:
    script = tmp_path / "slow_shards.py"
    script.write_text(SLOW)
    out = tmp_path / "out"
    out.mkdir()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    parent = subprocess.Popen([sys.executable, str(script), str(out)], env=environment, stderr=subprocess.DEVNULL)
    wait_for(out / "started-1")
    wait_for(out / "started-2")
    wait_for(out / ".progress" / "shards" / "00000.json")
    worker = int((out / "started-2").read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while alive(worker):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.02)
    assert committed(out, 0) == {"kept": 1}
    counts = run_shards(partial(write_number, out), 3, out=out, workers=1, what="numbers")
    assert counts == {"in": 3, "kept": 3}
    assert calls(out) == [1, 2]
