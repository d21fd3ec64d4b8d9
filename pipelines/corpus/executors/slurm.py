"""Shards as a Slurm job array by datatrove's executor, which submits; here its jobs are followed to their end.

Every job of a work directory has one name, so that a run that was killed finds them again in the queue and waits for
them instead of submitting twice.
"""

import hashlib
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.utils.stats import PipelineStats

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.progress import say
from pipelines.artifacts.work import progress_dir
from pipelines.corpus.execution import SlurmConfig
from pipelines.corpus.executors.watched import commits, import_path
from pipelines.corpus.shard_step import Failure, ShardStep, committed, failure_of

SILENT_POLLS = 40
"""Answers that squeue may fail to give in a row, as while its controller restarts: ten minutes by default."""


class SlurmShards(SlurmPipelineExecutor):  # type: ignore[misc]  # datatrove is untyped
    """Works on a step's shards as the tasks of a job array, `workers` of them at a time."""

    def __init__(self, step: ShardStep, workers: int, config: SlurmConfig) -> None:
        self.step, self.config = step, config
        self.jobs: list[str] = []
        self.silent = 0
        self.failed_inside = False
        place = hashlib.sha256(str(step.out.resolve()).encode()).hexdigest()[:12]
        super().__init__(
            [step],
            tasks=len(step.shards),
            time=str(config.time_minutes),
            partition=config.partition,
            cpus_per_task=config.cpus_per_task,
            mem_per_cpu_gb=config.memory_gb_per_cpu,
            workers=workers,
            job_name=f"gristmill-{step.what}-{place}",
            qos="",
            env_command=_environment(config.venv),
            sbatch_args=dict(config.sbatch),
            max_array_size=config.max_array,
            job_id_retriever=self._submitted,
            logging_dir=str(progress_dir(step.out.resolve()) / "slurm"),
            skip_completed=False,
            tasks_per_job=config.shards_per_task,
        )

    def finished(self) -> Iterator[int]:
        """Wait for the jobs that an earlier run left, submit the shards that they did not do, and yield each done."""
        self._until_answered()
        if self._alive():
            say(f"{self.step.what}: Slurm jobs of an earlier run are at work; waiting for them")
            yield from commits(self.step, self._alive, self.config.poll_seconds)
        left = tuple(index for index in self.step.shards if committed(self.step.out, index, verify=False) is None)
        self.step.shards, self.tasks = left, len(left)
        if left:
            self._submit()
            yield from commits(self.step, self._alive, self.config.poll_seconds)

    def failure(self, index: int) -> tuple[Failure, BaseException | None]:
        """Return why a shard was not committed: its own words, else what Slurm's accounting says of its task."""
        said = failure_of(self.step.out, index)
        if said:
            return said, None
        array, task = divmod(self.step.shards.index(index) // self.tasks_per_job, self.max_array_size)
        state = self._states().get(f"{self.jobs[array]}_{task}", "nothing")
        return Failure(f"Slurm says {state}; its log is in {self.slurm_logs_folder}"), None

    def launch_merge_stats(self) -> None:
        """Submit no job for datatrove's statistics: the counts are in the manifests."""

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
        """Return the options of sbatch that have a value."""
        found = super().get_sbatch_args(max_array)
        return {name: value for name, value in found.items() if value or name == "requeue"}

    def run(self) -> None:
        """Do the shards of this task, inside a job; all are tried before it counts as failed."""
        super().run()
        if self.failed_inside:
            sys.exit(1)

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> PipelineStats:
        try:
            return super()._run_for_rank(rank, local_rank, node_rank)
        except Exception:  # noqa: BLE001 - it is in the log, and the shard left a note of it
            self.failed_inside = True
            return PipelineStats()

    def _submit(self) -> None:
        """Submit the array, in several jobs where the cluster allows no longer one."""
        try:
            self.launch_job()
        except FileNotFoundError as error:
            raise UserError(
                f"executor: slurm needs {error.filename!r} on the PATH, which is not there; run on a login node of the "
                "cluster, or set executor to local"
            ) from error
        except subprocess.CalledProcessError as error:
            raise StageFailed(
                f"{self.step.what}: sbatch refused the job with status {error.returncode}; what it said stands above, "
                f"and the script in {self.logging_dir.resolve_paths('launch_script.slurm')}"
            ) from error

    def _submitted(self, answer: str) -> str:
        """Keep the number of a job that sbatch took."""
        found = re.search(r"\bjob (\d+)", answer) or re.search(r"(\d+)", answer)
        if not found:
            raise StageFailed(f"{self.step.what}: sbatch names no job in {answer!r}")
        self.jobs.append(found[1])
        return found[1]

    def _until_answered(self) -> None:
        """Return once squeue has answered, so that no silence is taken for jobs."""
        while self._alive() and self.silent:
            time.sleep(self.config.poll_seconds)

    def _alive(self) -> bool:
        """Say whether the queue holds jobs of this work directory; a queue that is silent may."""
        try:
            queue = subprocess.run(
                ["squeue", "--noheader", "--format=%A", f"--name={self.job_name}"],
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError as error:
            raise UserError(
                "executor: slurm needs 'squeue' on the PATH, which is not there; run on a login node of the cluster, "
                "or set executor to local"
            ) from error
        self.silent = self.silent + 1 if queue.returncode else 0
        if self.silent > SILENT_POLLS:
            raise StageFailed(
                f"{self.step.what}: squeue fails ({queue.stderr.strip()[:200]}); its jobs go on, and the next run "
                "waits for them"
            )
        return bool(queue.returncode or queue.stdout.strip())

    def _states(self) -> dict[str, str]:
        """Return the state of each task of the array by Slurm's accounting, or nothing where none is kept."""
        if not self.jobs:
            return {}
        command = ["sacct", "-X", "-n", "-P", "-j", ",".join(self.jobs), "--format=JobID,State"]
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        except FileNotFoundError:
            return {}
        return dict(line.split("|", 1) for line in said.splitlines() if "|" in line)


def _environment(venv: str) -> str:
    """Return the lines that give a job this process's code and the environment to run it in."""
    path = shlex.quote(str(Path(venv) / "bin" if venv else Path(sys.executable).parent))
    return f"export PATH={path}:$PATH PYTHONPATH={shlex.quote(import_path())}"
