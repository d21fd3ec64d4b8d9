"""Where sharded work runs: on this machine, on Slurm or on Ray. Nothing here can change what the work writes."""

import re
from multiprocessing import forkserver
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator

from pipelines.artifacts.stage import StageConfig

OURS = frozenset({"array", "error", "export", "job-name", "output"})
"""Options of sbatch that finding a shard's job and its log depends on."""

PRELOADED = [
    *(f"pipelines.corpus.{name}" for name in ("executors.local", "intake", "annotation", "filtering", "contamination")),
    "pandas",  # pyarrow looks for it at the first array made of Python objects: half a second in each worker
]
"""What the tasks of all sharded stages load."""


class SlurmConfig(StageConfig):
    """What each task of the job array gets. The store must lie on a file system that all nodes share."""

    model_config = ConfigDict(title="Slurm")
    partition: str = Field("", pattern=r"^[\w.,-]*$", description="Partition; none takes the cluster's default.")
    time_minutes: int = Field(1_440, ge=1, le=1_000_000, description="Time limit of a task.")
    cpus_per_task: int = Field(1, ge=1, le=1024, description="Cores of a task; a shard uses one.")
    memory_gb_per_cpu: int = Field(2, ge=1, le=4096, description="Memory for each of them.")
    venv: str = Field("", description="Virtual environment on the nodes; none takes the one that this process runs in.")
    sbatch: dict[str, str] = Field(
        {}, description="More options of sbatch by their long names, such as {account: ours, constraint: avx512}."
    )
    shards_per_task: int = Field(1, ge=1, le=10_000, description="Shards that a task does one after the other.")
    max_array: int = Field(1_001, ge=1, le=4_000_001, description="The cluster's MaxArraySize; more tasks queue after.")
    poll_seconds: float = Field(15, gt=0, le=3_600, description="How often the queue is asked.")

    @field_validator("sbatch")
    @classmethod
    def _options(cls, options: dict[str, str]) -> dict[str, str]:
        for name, value in options.items():
            if not re.fullmatch(r"[a-z][a-z-]*", name) or not value.isprintable():
                raise ValueError(f"{name!r}: {value!r} is no option of sbatch; give its long name and one line")
            if name in OURS:
                raise ValueError(f"{name!r} is set by the stage; leave it out")
        return options


class RayConfig(StageConfig):
    """The cluster, and what each task gets of it. The store must lie on a file system that all nodes share."""

    model_config = ConfigDict(title="Ray")
    address: str = Field(
        "local", min_length=1, description="local starts a cluster on this machine; HOST:PORT or auto joins one."
    )
    cpus: int = Field(1, ge=1, le=1024, description="Cores of a task; a shard uses one.")
    memory_gb: float = Field(2, gt=0, le=4096, description="Memory that is reserved for each core.")


class ShardedConfig(StageConfig):
    """The settings of a stage whose work is done in shards: how many side by side, and where."""

    model_config = ConfigDict(title="Sharded work")
    runtime: ClassVar[frozenset[str]] = frozenset({"workers", "executor", "slurm", "ray"})

    workers: int = Field(
        1,
        ge=1,
        le=100_000,
        description="Shards at a time: processes here, tasks on Slurm or Ray; no byte depends on it",
    )
    executor: Literal["local", "slurm", "ray"] = Field("local", description="Where the shards are worked on.")
    slurm: SlurmConfig = Field(SlurmConfig(), description="For the executor slurm.")
    ray: RayConfig = Field(RayConfig(), description="For the executor ray, which needs the extra gristmill[ray].")

    def prepare(self) -> None:
        """Start loading what local workers need, so that it is there when the stage has shards for them."""
        if self.executor == "local" and self.workers > 1:
            start_worker_server()


def start_worker_server() -> None:
    """Start the server that local workers are forked from, if none runs; it loads all tasks' libraries once."""
    forkserver.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()
