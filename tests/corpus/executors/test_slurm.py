"""Slurm: the generated script runs, its jobs are followed and found again, and a failed shard is named."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.work import atomic_file
from pipelines.corpus.execution import ShardedConfig, SlurmConfig
from pipelines.corpus.ingest import IngestConfig
from pipelines.corpus.shard_step import committed
from pipelines.corpus.shards import run_shards

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slurm's commands on the PATH; what comes back is the folder of their state."""
    commands, state = tmp_path / "bin", tmp_path / "state"
    commands.mkdir()
    state.mkdir()
    text = f"#!{sys.executable}\n" + (Path(__file__).parent / "fake_slurm.py").read_text()
    for name in ("sbatch", "squeue", "sacct", "scontrol", "srun"):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(state))
    return state


def write_number(out: Path, index: int) -> dict[str, int]:
    with atomic_file(out / "documents" / f"part-{index:05d}.txt", out) as fresh:
        fresh.write_text(f"shard {index}")
    return {"in": index, "kept": 1}


def fail_and_die(out: Path, index: int) -> dict[str, int]:
    if index == 1:
        raise ValueError("no such luck")
    return die(out, index)


def die(out: Path, index: int) -> dict[str, int]:
    if index == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return write_number(out, index)


def mistake(out: Path, index: int) -> dict[str, int]:
    raise UserError("source: column 'text' is not there; set ingest.source.text_field")


def on_slurm(**fields: object) -> ShardedConfig:
    return ShardedConfig.model_validate({"executor": "slurm", "slurm": {"poll_seconds": 0.2, **fields}})


def test_each_shard_is_a_task_of_a_job_and_a_rerun_submits_only_what_failed(tmp_path: Path, slurm: Path) -> None:
    out = tmp_path / "out"
    config = on_slurm(partition="cpu,spare", time_minutes=120, memory_gb_per_cpu=3, sbatch={"account": "ours"})
    with pytest.raises(
        StageFailed, match=r"numbers: shard 1 of 3 failed \(ValueError: no such luck\); shards 2 failed too; 1 are fin"
    ):
        run_shards(partial(fail_and_die, out), 3, out=out, workers=2, what="numbers", execution=config)
    script = (slurm / "100.slurm").read_text()
    for line in ("partition=cpu,spare", "time=120", "mem-per-cpu=3G", "cpus-per-task=1", "account=ours"):
        assert f"#SBATCH --{line}\n" in script
    assert "#SBATCH --array=0-2%2\n" in script
    assert "--qos" not in script
    assert f"PYTHONPATH={ROOT}" in script
    with pytest.raises(
        StageFailed, match=r"shard 2 of 3 failed \(Slurm says OUT_OF_MEMORY; its log is in .*slurm_logs"
    ):
        run_shards(partial(die, out), 3, out=out, workers=2, what="numbers", execution=config)
    assert "#SBATCH --array=0-1%2\n" in (slurm / "101.slurm").read_text()
    counts = run_shards(partial(write_number, out), 3, out=out, workers=1, what="numbers")
    assert counts == {"in": 3, "kept": 3}, "a rerun may end on this machine"
    assert len(list(slurm.glob("*.slurm"))) == 2


def test_a_long_array_is_several_jobs_and_a_task_several_shards(tmp_path: Path, slurm: Path) -> None:
    out = tmp_path / "out"
    (slurm / "silent").touch()
    config = on_slurm(max_array=1, shards_per_task=3)
    counts = run_shards(partial(write_number, out), 5, out=out, workers=1, what="numbers", execution=config)
    assert counts == {"in": 10, "kept": 5}
    arguments = [path.read_text() for path in sorted(slurm.glob("*.arguments"))]
    assert arguments == ["--export=ALL,RUN_OFFSET=0", "--export=ALL,RUN_OFFSET=1 --dependency=afterany:100"]
    assert run_shards(partial(write_number, out), 5, out=out, workers=1, what="numbers", execution=config) == counts
    assert len(list(slurm.glob("*.slurm"))) == 2, "nothing was left to submit"


def test_a_users_mistake_on_a_node_comes_back_as_one(tmp_path: Path, slurm: Path) -> None:
    with pytest.raises(UserError, match=r"set ingest\.source\.text_field"):
        run_shards(partial(mistake, tmp_path), 1, out=tmp_path, workers=1, what="numbers", execution=on_slurm())


WAITING = """
import sys, time
from functools import partial
from pathlib import Path
from pipelines.corpus.shards import run_shards
from tests.corpus.executors.test_slurm import on_slurm, when_released

if __name__ == "__main__":
    out = Path(sys.argv[1])
    run_shards(partial(when_released, out), 2, out=out, workers=1, what="numbers", execution=on_slurm())
"""


def when_released(out: Path, index: int) -> dict[str, int]:
    while not (out.parent / "released").exists():
        time.sleep(0.05)
    return write_number(out, index)


def test_a_run_after_a_kill_waits_for_the_jobs_that_are_there(tmp_path: Path, slurm: Path) -> None:
    out, script = tmp_path / "out", tmp_path / "submit.py"
    out.mkdir()
    script.write_text(WAITING)
    child = subprocess.Popen([sys.executable, str(script), str(out)], env=os.environ | {"PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 60
    while not (slurm / "100.queued").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.kill()
    child.wait()
    (tmp_path / "released").touch()
    counts = run_shards(partial(when_released, out), 2, out=out, workers=1, what="numbers", execution=on_slurm())
    assert counts == {"in": 1, "kept": 2}
    assert [path.name for path in slurm.glob("*.slurm")] == ["100.slurm"]


def test_a_refused_job_is_said(tmp_path: Path, slurm: Path) -> None:
    (slurm / "refuse").touch()
    with pytest.raises(StageFailed, match="numbers: sbatch refused the job with status 1"):
        run_shards(partial(write_number, tmp_path), 1, out=tmp_path, workers=1, what="numbers", execution=on_slurm())
    assert committed(tmp_path, 0) is None


def test_a_machine_without_slurm_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="needs 'squeue' on the PATH"):
        run_shards(partial(write_number, tmp_path), 1, out=tmp_path, workers=1, what="numbers", execution=on_slurm())


@pytest.mark.parametrize("options", [{"array": "0-9"}, {"Account": "x"}, {"account": "x\n#SBATCH --uid=0"}])
def test_an_option_that_would_break_the_script_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        SlurmConfig(sbatch=options)


def test_where_the_work_runs_is_no_part_of_a_key() -> None:
    here = IngestConfig.model_validate({"source": "docs:"})
    there = IngestConfig.model_validate({"source": "docs:", "executor": "slurm", "slurm": {"partition": "big"}})
    on_ray = IngestConfig.model_validate({"source": "docs:", "executor": "ray", "workers": 9})
    assert here.identity() == there.identity() == on_ray.identity()
    assert "shard_bytes" in here.identity()
