"""Shards as tasks of a Ray cluster by datatrove's executor, which follows them to their end."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from datatrove.executor.ray import RayPipelineExecutor

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.work import progress_dir
from pipelines.corpus.execution import RayConfig
from pipelines.corpus.executors.watched import commits, import_path
from pipelines.corpus.shard_step import Failure, ShardStep, failure_of

POLL_SECONDS = 0.5
GIB = 1 << 30


class RayShards(RayPipelineExecutor):  # type: ignore[misc]  # datatrove is untyped
    """Works on a step's shards as Ray tasks, `workers` of them at a time."""

    def __init__(self, step: ShardStep, workers: int, config: RayConfig) -> None:
        self.step, self.config = step, config
        self.error = ""
        super().__init__(
            [step],
            tasks=len(step.shards),
            workers=workers,
            cpus_per_task=config.cpus,
            mem_per_cpu_gb=config.memory_gb,
            logging_dir=str(progress_dir(step.out.resolve()) / "ray"),
            skip_completed=False,
        )

    def finished(self) -> Iterator[int]:
        """Submit the shards and yield each as it is committed."""
        if not self.step.shards:
            return
        with _cluster(self.config, min(self.workers, self.tasks)):
            self._fits()
            thread = threading.Thread(target=self._run, name="ray", daemon=True)
            thread.start()
            yield from commits(self.step, thread.is_alive, POLL_SECONDS)

    def failure(self, index: int) -> tuple[Failure, BaseException | None]:
        """Return why a shard was not committed: its own words, else what Ray said."""
        silent = f"its process died, perhaps out of memory {self.error}".strip()
        return failure_of(self.step.out, index) or Failure(silent), None

    def _run(self) -> None:
        try:
            self.run()
        except Exception as error:  # noqa: BLE001 - said with the shards that it cost
            self.error = f"({type(error).__name__}: {error})"

    def _fits(self) -> None:
        """Raise UserError where no node could ever take a task, for which Ray would wait without end."""
        import ray

        wanted = {"CPU": float(self.cpus_per_task), "memory": self.mem_per_cpu_gb * self.cpus_per_task * GIB}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0.0) >= need for name, need in wanted.items()) for node in nodes):
            has = "; ".join(f"{node.get('CPU', 0):.0f} cores, {node.get('memory', 0) / GIB:.1f} GiB" for node in nodes)
            raise UserError(
                f"ray: a task wants {self.cpus_per_task} cores of {self.mem_per_cpu_gb} GB each and no node has them "
                f"({has}); lower ray.cpus or ray.memory_gb"
            )


@contextmanager
def _cluster(config: RayConfig, tasks: int) -> Iterator[None]:
    """Join the cluster, or start one on loopback, for as long as the block lasts."""
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
    except ModuleNotFoundError as error:
        raise UserError("executor: ray is not installed; pip install 'gristmill[ray]', or set executor") from error
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = import_path()
    here: dict[str, object] = {"num_cpus": tasks * config.cpus, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(
            address=config.address,
            include_dashboard=False,
            log_to_driver=False,
            **(here if config.address == "local" else {}),
        )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise StageFailed(f"ray: {config.address!r} cannot be joined ({reason}); check ray.address") from error
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    try:
        yield
    finally:
        ray.shutdown()
