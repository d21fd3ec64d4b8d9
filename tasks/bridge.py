"""The one module where a stage meets Prefect: a task that looks up, builds, and shows a hit as Cached."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.settings import get_current_settings
from prefect.states import Completed, Failed

from pipelines.artifacts.build import Built, find_built
from pipelines.artifacts.errors import DamagedArtifact, StageFailed, TemporaryFault, UserError
from pipelines.artifacts.host import StageHost
from pipelines.artifacts.job import Job
from pipelines.artifacts.manifest import Artifact, Output
from pipelines.artifacts.progress import LineSink, line_sink
from pipelines.artifacts.run import LocalRun, Run, until_sound
from pipelines.artifacts.stage import Stage, StageConfig
from pipelines.artifacts.store import Store
from tasks.cluster_worker import ended_with_run
from tasks.places import place_across_hosts
from tasks.showing import move_bar, progress_bar, show_lineage

T = TypeVar("T")

RETRIES = 2
"""For a fault that may be over at the next try; PREFECT_TASKS_DEFAULT_RETRIES sets another count."""
RETRY_DELAYS_SECONDS = [10.0, 60.0]

StageTask = Task[[StageConfig, Mapping[str, Output], str, Store], Any]


def as_task(stage: Stage) -> StageTask:
    """Return the stage as a task. It keeps no Prefect cache: the store is the only one.

    It has no tags either: Prefect asks the server for a concurrency slot of every tag before the task may look into the
    store, so that hits would wait for each other, 0.1 s each with no limit set and for hours with one.
    """

    def run_stage(config: StageConfig, inputs: Mapping[str, Output], node: str, store: Store) -> Any:
        try:
            built = find_built(store, stage, config, inputs, node=node)
            if built is None:
                with progress_bar(node), progress_in_log(), place_across_hosts(config, node, log_line):
                    built = build_in_host(Job(store, stage, config, inputs, node))
                show_lineage(node, built.manifest)
        except (UserError, StageFailed, DamagedArtifact) as error:  # one line in the UI, not a traceback
            return Failed(name=type(error).__name__, message=str(error), data=error)
        return Completed(name="Cached" if built.hit else "Completed", message=summary(built), data=built)

    run_stage.__doc__ = stage.run.__doc__
    return task(
        name=stage.name,
        task_run_name="{node}",
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=retries(),
        retry_delay_seconds=RETRY_DELAYS_SECONDS,
        retry_condition_fn=may_mend_itself,
    )(run_stage)


def retries() -> int:
    """Return how often a task is tried again: what Prefect's settings say, else our own count."""
    tasks = get_current_settings().tasks
    return tasks.default_retries if "default_retries" in tasks.model_fields_set else RETRIES


def may_mend_itself(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Say whether a failed task is worth another try: a user's mistake, a bug and a lack of memory are not."""
    return state.name == TemporaryFault.__name__


run_host: ContextVar[StageHost | None] = ContextVar("run_host", default=None)
"""The stage host of the running flow."""


def build_in_host(job: Job) -> Built:
    """Return the built stage from the flow's host, or one of its own in another process or beside another task."""
    host = run_host.get()
    if host is not None and host.free.acquire(blocking=False):
        try:
            return host.build(job)
        finally:
            host.free.release()
    with StageHost(log_line) as own, ended_with_run(own):
        return own.build(job)


def log_line(level: int, line: str) -> None:
    """Write a line to the log of the Prefect run, and not to the terminal, which has it already."""
    get_run_logger().log(level, "%s", line)


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
    """Progress as INFO lines of the Prefect run, and where no bar is drawn as plain lines too."""

    def write(self, line: str) -> None:
        """Log the line and move the bar."""
        move_bar(line)
        log_line(logging.INFO, line)
        if not sys.stderr.isatty():
            super().write(line)


@dataclass
class PrefectRun(LocalRun):
    """Builds each node as a task of the running flow, called directly in its main thread.

    What is not in the store is built in the run's stage host, which ends with the block.
    """

    tasks: Mapping[str, StageTask] = field(default_factory=dict)
    host: StageHost = field(default_factory=lambda: StageHost(log_line))
    _token: Token[StageHost | None] | None = None

    def __enter__(self) -> Self:
        self._token = run_host.set(self.host)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token:
            run_host.reset(self._token)
        self.host.end()

    def walk(self, wire: Callable[[Run], T]) -> T:
        """Return what the product's wiring returns, a node after the other; raise what the first task failed with."""
        return until_sound(lambda: wire(self), self)

    def __call__(
        self, stage: Stage, config: StageConfig, *, node: str | None = None, **inputs: Output | None
    ) -> Artifact:
        """Return the built artifact of this node; raise what the task failed with."""
        node = node or stage.name
        if self.only is not None and node not in self.only:
            return Artifact(stage.name, node, "", self.store.root, planned=True)
        given = {name: output for name, output in inputs.items() if output is not None}
        self.on_start(node)
        state: State[Built] = self.tasks[stage.name](config, given, node, self.store, return_state=True)
        built = state.result()
        self.record(node, built)
        return built.artifact
