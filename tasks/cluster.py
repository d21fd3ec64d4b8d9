"""Independent stages side by side: each is a task on a Dask cluster as soon as what it needs is built."""

import logging
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlsplit

from prefect.futures import PrefectFuture

from pipelines.artifacts.build import Built
from pipelines.artifacts.errors import DamagedArtifact, StageFailed, UserError
from pipelines.artifacts.frontier import Frontier
from pipelines.artifacts.progress import say
from pipelines.artifacts.run import Row, Run, until_sound
from tasks.bridge import PrefectRun

if TYPE_CHECKING:
    from prefect_dask.task_runners import DaskTaskRunner

T = TypeVar("T")

AT_ONCE = 2
"""Stages that a run builds side by side on its own host where it is told no other number."""
LOCAL = re.compile(r"dask(?::([1-9]\d?))?")
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def cluster_at(named: str) -> "DaskTaskRunner":
    """Return the task runner that is named: `dask`, `dask:N` for N stages at once here, or a scheduler's address.

    Nothing is started or reached yet. Raises UserError for what names none, for an address that anybody on the network
    could run code through, and where Dask is not installed.
    """
    local, address = LOCAL.fullmatch(named), urlsplit(named)
    if not local and (address.scheme not in ("tls", "tcp") or not address.netloc):
        raise UserError(f"task runner: {named!r} is none; write sequential, dask, dask:4 or tls://HOST:PORT")
    if address.scheme == "tcp" and address.hostname not in LOOPBACK:
        raise UserError(
            f"task runner: {named!r}: whoever reaches a scheduler without TLS runs code on its workers; start it with "
            "--protocol tls and name it as tls://HOST:PORT"
        )
    try:
        import dask
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise UserError(f"task runner: {named!r} needs Dask; pip install 'gristmill[dask]'") from error
    for chatter in ("distributed", "prefect.task_runner.dask"):  # a stopped run is no news, and there is no dashboard
        logging.getLogger(chatter).setLevel(logging.ERROR)
    if not local:
        return DaskTaskRunner(address=named)
    dask.config.set({"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []})
    page = "127.0.0.1:0"  # Dask opens its pages also where it is told to have none, and to every network
    cluster = {"n_workers": 1, "threads_per_worker": int(local[1] or AT_ONCE), "processes": False, "memory_limit": 0}
    return DaskTaskRunner(cluster_kwargs=cluster | {"dashboard_address": page, "worker_dashboard_address": page})


@dataclass
class ClusterRun(PrefectRun):
    """Builds each node as a task on a cluster, where it has a stage host of its own; asks the store in this process.

    The product is planned anew whenever a node is built, so that its wiring is read as ever and decides on what is
    there. What the store has is not sent anywhere.
    """

    cluster: "DaskTaskRunner" = field(kw_only=True)
    _building: dict[str, PrefectFuture[Built]] = field(default_factory=dict)
    _ended: SimpleQueue[str] = field(default_factory=SimpleQueue)
    _failure: Exception | None = None
    _started: ExitStack = field(default_factory=ExitStack)
    _runner: "DaskTaskRunner | None" = None

    def __enter__(self) -> Self:
        """Offer no host to the tasks: a cluster in this process hands them this context, and each has its own host."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of what still runs, which the workers then end, and take down a cluster of our own."""
        try:
            self._started.close()
        finally:
            super().__exit__(kind, error, trace)

    def walk(self, wire: Callable[[Run], T]) -> T:
        """Return what the product's wiring returns once all its nodes are built; raise the first failure."""
        return until_sound(lambda: self._walked(wire), self)

    def _walked(self, wire: Callable[[Run], T]) -> T:
        self._failure = None
        while True:
            plan = Frontier(self.store)
            done = wire(plan)
            for row in plan.ready():
                self._see_to(row, plan)
            if not self._building:
                if self._failure:
                    raise self._failure
                order = {row.node: place for place, row in enumerate(plan.rows)}
                self.results.sort(key=lambda result: order[result.node])  # that of a sequential run
                return done
            self._await_one()

    def _see_to(self, row: Row, plan: Frontier) -> None:
        """Show a node that is built, submit one that can be; leave those that were seen to before."""
        if row.node in self._building or (self.only is not None and row.node not in self.only):
            return
        job = plan.jobs[row.node]
        if row.node in {result.node for result in self.results}:
            if row.state != "hit":
                lost = DamagedArtifact(f"{row.node}: its artifact has left the store or its source has changed")
                self._failure = self._failure or lost
        elif row.state == "hit":
            self(job.stage, job.config, node=job.node, **job.inputs)
        elif self._failure is None:
            self.on_start(row.node)
            parameters = {"config": job.config, "inputs": dict(job.inputs), "node": row.node, "store": self.store}
            future = self._connected().submit(self.tasks[row.stage], parameters)
            self._building[row.node] = future
            future.add_done_callback(partial(self._note, row.node))

    def _note(self, node: str, _future: object) -> None:
        """Be told by Dask's thread that the node's task has ended."""
        self._ended.put(node)

    def _connected(self) -> "DaskTaskRunner":
        """Return the cluster, which is started or reached when the first node asks for it."""
        if self._runner is None:
            self._runner = self._started.enter_context(self.cluster)
            try:
                _ = self._runner.client
            except OSError as error:
                raise StageFailed(
                    f"task runner: no Dask scheduler answers at {self.cluster.address} ({error}); start it, and a "
                    "worker on each host"
                ) from error
        return self._runner

    def _await_one(self) -> None:
        """Wait until a node's task has ended; keep what it built, or the first failure until the others have ended."""
        node = self._ended.get()
        try:
            built = self._building.pop(node).result()
            if self.store.find(built.manifest.stage, built.manifest.key) is None:
                raise StageFailed(
                    f"{node}: its worker's store is not this one; give all hosts the same GRISTMILL_STORE"
                )
            self.record(node, built)
        except Exception as error:  # noqa: BLE001 - among them a lost worker or scheduler, in whatever words of Dask's
            if self._building:
                say(f"{node}: failed; {', '.join(self._building)} may end, as the next run needs it")
            cause = f"{type(error).__name__}: {error}".splitlines()[0]
            ours = isinstance(error, (UserError, StageFailed, DamagedArtifact))
            fault = error if ours else StageFailed(f"{node}: the cluster lost it ({cause}); run again")
            self._failure = self._failure or fault
