"""What every flow does: walk its product as tasks, and attach the run report."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Completed, Failed

import tasks.data
import tasks.release
import tasks.training
from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.run import NodeResult, record_run, tell, until_sound
from pipelines.artifacts.stage import StageConfig
from pipelines.artifacts.store import Store
from pipelines.products import PRODUCTS
from pipelines.settings import checked
from tasks.bridge import PrefectRun, StageTask
from tasks.runner import ended_with_runner
from tasks.showing import show_run

ROOMS: tuple[ModuleType, ...] = (tasks.data, tasks.training, tasks.release)
TASKS: dict[str, StageTask] = {
    item.name: item for room in ROOMS for item in vars(room).values() if isinstance(item, Task)
}


def default_store() -> Store:
    """Return the store that the environment names, or `./artifacts`."""
    return Store(Path(os.environ.get("GRISTMILL_STORE", "artifacts")))


def run_product(name: str, config: StageConfig | Mapping[str, Any]) -> State[list[NodeResult]]:
    """Walk the product as tasks of the running flow; return a failed state with one line where a stage fails.

    The config comes from a form as a mapping. It is checked here and not by Prefect, whose message is a page.
    """
    store = default_store()
    run = PrefectRun(store, tasks=TASKS, on_end=tell)
    try:
        config = as_config(name, config)
        store.prepare()
        with ended_with_runner(), run:
            until_sound(lambda: PRODUCTS[name].wire(config, run), run)
    except (UserError, StageFailed) as error:
        return Failed(name=type(error).__name__, message=str(error), data=error)
    finally:
        if run.results:  # what a failed run has built is kept by gc as well
            record_run(store, name, run.results)
    show_run(name, config, run.results, flow_run_name())
    return Completed(message=f"{len(run.results)} stages", data=run.results)


def as_config(name: str, config: StageConfig | Mapping[str, Any]) -> StageConfig:
    """Return the product's config; raise UserError with the first wrong field where it is none."""
    model = PRODUCTS[name].config
    return config if isinstance(config, model) else checked(model, dict(config), "config")


def flow_run_name() -> str:
    """Return the name of the running flow run."""
    context = FlowRunContext.get()
    return context.flow_run.name if context and context.flow_run else "run"
