"""What every flow does: walk its product as tasks, and attach the run report."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from prefect import Task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, TagsContext
from prefect.states import Completed, Failed

import tasks.data
import tasks.release
import tasks.training
from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.mirror_uri import mirror_at
from pipelines.artifacts.nodes import node_named
from pipelines.artifacts.progress import say
from pipelines.artifacts.run import NodeResult, Outcome, Planner, needed_for, record_run, tell
from pipelines.artifacts.stage import StageConfig
from pipelines.artifacts.store import Store
from pipelines.products import PRODUCTS
from pipelines.secret_values import refuse_secrets
from pipelines.settings import checked
from tasks.bridge import PrefectRun, StageTask
from tasks.cluster import ClusterRun, cluster_at
from tasks.runner import ended_with_runner
from tasks.showing import show_run

ROOMS: tuple[ModuleType, ...] = (tasks.data, tasks.training, tasks.release)
TASKS: dict[str, StageTask] = {
    item.name: item for room in ROOMS for item in vars(room).values() if isinstance(item, Task)
}

TASK_RUNNER = "GRISTMILL_TASK_RUNNER"
"""The variable that says where stages are built that do not wait for each other; `cluster_at` says what it may be."""
SEQUENTIAL = "sequential"
"""One stage after the other in the run's own stage host, which is the default."""


def default_store() -> Store:
    """Return the store that the environment names, or `./artifacts`, with the mirror that it names."""
    root = Path(os.environ.get("GRISTMILL_STORE", "artifacts"))
    return Store(root, mirror_at(os.environ.get("GRISTMILL_MIRROR"), root))


def run_product(name: str, given: object, node: str | None = None) -> State[list[NodeResult]]:
    """Walk the product as tasks of the running flow, then act on what they made where the product does.

    With `node` only that one is built, and what it needs. `given` is the product's config, or the parameters that
    Prefect has stored for one: it is checked here, so that a run refuses with a line what it cannot take. Returns a
    failed state with one line where a stage fails. A run that ends in an action is Completed under the name of its
    outcome, a refused promotion too: the run did what it is for.
    """
    store, product = default_store(), PRODUCTS[name]
    run = PrefectRun(store, tasks=TASKS, on_end=tell)
    outcome: Outcome | None = None
    try:
        if (runner := os.environ.get(TASK_RUNNER, SEQUENTIAL)) != SEQUENTIAL:
            run = ClusterRun(store, tasks=TASKS, on_end=tell, cluster=cluster_at(runner))
        config = accepted(product.config, given)
        store.prepare()
        if node is not None:
            planner = Planner(store)
            product.wire(config, planner)
            run.only = needed_for(node_named(node, planner), planner.rows)
        # Tasks take over the run's tags, and then ask the server for a slot of each, a tenth of a second a hit.
        with ended_with_runner(), TagsContext(current_tags=set()), run:
            done = run.walk(lambda walked: product.wire(config, walked))
            outcome = product.act(store, config, done) if product.act and node is None else None
    except (UserError, StageFailed) as error:
        return Failed(name=type(error).__name__, message=str(error), data=error)
    finally:
        if run.results:  # what a failed run has built is kept by gc as well
            record_run(store, name if node is None else f"stage-{node}", run.results)
    show_run(name if node is None else f"{name}, {node}", config, run.results, flow_run_name())
    if outcome:
        told = outcome.line.lower().startswith(outcome.name.lower())
        say(outcome.line if told else f"{outcome.name}: {outcome.line}")
        create_markdown_artifact(key="decision", markdown=outcome.markdown, description=outcome.line)
        return Completed(name=outcome.name, message=outcome.line, data=run.results)
    return Completed(message=f"{len(run.results)} stages", data=run.results)


def accepted(model: type[StageConfig], given: object) -> StageConfig:
    """Return the config that a run was given; raise UserError with the field that holds a secret or does not fit."""
    refuse_secrets(given, "config")
    if isinstance(given, model):
        return given
    if not isinstance(given, Mapping):
        raise UserError(f"config: {type(given).__name__} is no {model.__name__}; give its fields")
    try:
        return checked(model, given, "config")
    except UserError as error:
        raise UserError(f"{error}; change it in the run's form, or let gristmill deploy store today's recipe") from None


def flow_run_name() -> str:
    """Return the name of the running flow run."""
    context = FlowRunContext.get()
    return context.flow_run.name if context and context.flow_run else "run"
