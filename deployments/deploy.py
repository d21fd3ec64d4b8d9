"""`gristmill deploy`: rows of the catalog registered at the server, and served by this process or left to a pool."""

import asyncio
import os
from collections.abc import Iterable
from typing import Any, cast

from prefect import Flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, WorkerStatus
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.exceptions import ObjectNotFound
from prefect.runner import Runner
from prefect.schedules import Cron, Schedule
from prefect.types.entrypoint import EntrypointType
from prefect.utilities.importtools import import_object

from deployments.catalog import Row
from deployments.prefect_api import required_server
from deployments.prefect_settings import CLIENT, WATCHED_TAG
from flows.product import TASK_RUNNER
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.progress import say
from pipelines.config import FullConfig
from pipelines.products import part_of

STRATEGIES = {"queue": ConcurrencyLimitStrategy.ENQUEUE, "skip": ConcurrencyLimitStrategy.CANCEL_NEW}


def deploy(rows: Iterable[Row], recipe: FullConfig, pool: str | None, at_once: int) -> None:
    """Register the deployments; without a pool serve them, at most so many runs at once, until SIGTERM or SIGINT.

    Raises UserError and StageFailed as `required_server` does.
    """
    url = required_server()
    made = [as_deployment(row, recipe, pool) for row in rows]
    try:
        asyncio.run(_register(made, pool) if pool else _serve(made, url, at_once))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return


def as_deployment(row: Row, recipe: FullConfig, pool: str | None = None) -> RunnerDeployment:
    """Return the deployment of a row, its parameters those of the recipe that its flow reads."""
    flow: Flow[..., Any] = import_object(row.entrypoint.replace(":", "."))
    limit = row.at_once and ConcurrencyLimitConfig(limit=row.at_once, collision_strategy=STRATEGIES[row.overlap])
    made = flow.to_deployment(
        name=row.name,
        description=row.purpose,
        tags=[WATCHED_TAG],
        parameters={"config": part_of(row.config, recipe).model_dump(mode="json")},
        schedules=[_schedule(row)] if row.cron else [],
        triggers=[_trigger(row)] if row.event else None,
        concurrency_limit=limit,
        paused=False,
        entrypoint_type=EntrypointType.MODULE_PATH,
        work_pool_name=pool,
        work_queue_name=row.queue if pool else None,
        job_variables={"env": {**CLIENT, **_task_runner()}} if pool else None,
    )
    assert isinstance(made, RunnerDeployment)  # noqa: S101 - a coroutine only where a loop runs
    return made


def _task_runner() -> dict[str, str]:
    """Return what tells a worker's runs where to build, which `--task-runner` has put into this environment."""
    return {TASK_RUNNER: os.environ[TASK_RUNNER]} if TASK_RUNNER in os.environ else {}


def _schedule(row: Row) -> Schedule:
    try:
        return Cron(str(row.cron), timezone="UTC", slug="catalog")
    except ValueError as error:
        raise UserError(
            f"--schedule: {row.name}: {row.cron!r} is no cron line; write minute hour day month weekday, or off"
        ) from error


def _trigger(row: Row) -> DeploymentEventTrigger:
    return DeploymentEventTrigger(name=f"gristmill: {row.event} starts {row.name}", expect={str(row.event)})


class ServingRunner(Runner):
    """A runner that SIGTERM ends as Ctrl-C does: its schedules are paused, as nobody is left to run them."""

    serving: asyncio.Task[None]

    def handle_sigterm(self, *_: Any, **__: Any) -> None:
        """Cancel the task that serves; SIGINT would not do, which a shell has its background jobs ignore."""
        self.serving.get_loop().call_soon_threadsafe(self.serving.cancel)


async def _serve(made: list[RunnerDeployment], url: str, at_once: int) -> None:
    runner = ServingRunner(limit=at_once)
    runner.serving = cast("asyncio.Task[None]", asyncio.current_task())
    for deployment in made:
        await runner.aadd_deployment(deployment)
    names = ", ".join(deployment.name for deployment in made)
    say(f"serving {names} at {url}; start one: prefect deployment run {made[0].full_name} (Ctrl-C stops serving)")
    await runner.start()


async def _register(made: list[RunnerDeployment], pool: str) -> None:
    async with get_client() as client:
        await _make_pool(client, pool)
        for deployment in made:
            await deployment.aapply()
            say(f"registered {deployment.full_name} in the queue {deployment.work_queue_name!r} of {pool!r}")
        workers = await client.read_workers_for_work_pool(pool)
    if not any(worker.status == WorkerStatus.ONLINE for worker in workers):
        say(f"work pool {pool!r} has no worker, so its runs wait; on each host: prefect worker start --pool {pool}")


async def _make_pool(client: PrefectClient, pool: str) -> None:
    try:
        await client.read_work_pool(pool)
    except ObjectNotFound:
        await client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
