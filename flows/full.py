"""The whole chain as one flow."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.product import run_product
from pipelines.artifacts.run import NodeResult
from pipelines.config import FullConfig
from pipelines.recipes import demo


@flow(name="full", persist_result=False, validate_parameters=False)
def full(config: FullConfig = demo()) -> State[list[NodeResult]]:  # noqa: B008 - a recipe is frozen
    """Take a crawl to a packaged model with a report."""
    return run_product("full", config)
