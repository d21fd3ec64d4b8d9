"""The one module where a stage meets Prefect: a task that looks up, builds, and shows a hit as Cached."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from pipelines.artifacts.build import Built, build
from pipelines.artifacts.errors import DamagedArtifact, StageFailed, UserError
from pipelines.artifacts.manifest import Artifact, Output
from pipelines.artifacts.progress import LineSink, line_sink
from pipelines.artifacts.run import LocalRun
from pipelines.artifacts.stage import Stage, StageConfig
from pipelines.artifacts.store import Store
from tasks.showing import move_bar, progress_bar, show_lineage

StageTask = Task[[StageConfig, Mapping[str, Output], str, Store], Any]


def as_task(stage: Stage) -> StageTask:
    """Return the stage as a task. It keeps no Prefect cache: the store is the only one.

    It has no tags either: Prefect asks the server for a concurrency slot of every tag before the task may look into the
    store, so that hits would wait for each other, 0.1 s each with no limit set and for hours with one.
    """

    def run_stage(config: StageConfig, inputs: Mapping[str, Output], node: str, store: Store) -> Any:
        try:
            with progress_bar(node), progress_in_log():
                built = build(store, stage, config, inputs, node=node)
        except (UserError, StageFailed, DamagedArtifact) as error:  # one line in the UI, not a traceback
            return Failed(name=type(error).__name__, message=str(error), data=error)
        if not built.hit:
            show_lineage(node, built.manifest)
        return Completed(name="Cached" if built.hit else "Completed", message=summary(built), data=built)

    run_stage.__doc__ = stage.run.__doc__
    return task(
        name=stage.name,
        task_run_name="{node}",
        cache_policy=NO_CACHE,
        persist_result=False,
    )(run_stage)


def summary(built: Built) -> str:
    """Return one line on what a task did: what went in and was kept, and the first figures of the stage's own."""
    metrics = built.manifest.metrics
    first = sorted(metrics, key=lambda name: name not in ("in", "kept"))[:4]
    figures = ", ".join(f"{name} {metrics[name]:,.4g}" for name in first)
    return f"{built.artifact.key[:12]} {figures}"


@contextmanager
def progress_in_log() -> Iterator[None]:
    """Send progress lines to the run's log as well, where the UI shows them."""
    token = line_sink.set(RunLogSink)
    try:
        yield
    finally:
        line_sink.reset(token)


class RunLogSink(LineSink):
    """Progress as INFO lines of the Prefect run."""

    def write(self, line: str) -> None:
        """Log the line and move the bar."""
        move_bar(line)
        get_run_logger().info("%s", line)
        super().write(line)


@dataclass
class PrefectRun(LocalRun):
    """Builds each node as a task of the running flow, called directly in its main thread."""

    tasks: Mapping[str, StageTask] = field(default_factory=dict)

    def __call__(
        self, stage: Stage, config: StageConfig, *, node: str | None = None, **inputs: Output | None
    ) -> Artifact:
        """Return the built artifact of this node; raise what the task failed with."""
        node = node or stage.name
        given = {name: output for name, output in inputs.items() if output is not None}
        self.on_start(node)
        state: State[Built] = self.tasks[stage.name](config, given, node, self.store, return_state=True)
        built = state.result()
        self.record(node, built)
        return built.artifact
