"""The flow that trains the served model on with new data."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.product import run_product
from pipelines.artifacts.run import NodeResult
from pipelines.config import RetrainConfig
from pipelines.products import part_of
from pipelines.recipes import demo

RETRAIN = part_of(RetrainConfig, demo())


@flow(name="retrain", persist_result=False, validate_parameters=False)
def retrain(config: RetrainConfig = RETRAIN) -> State[list[NodeResult]]:
    """Train the served model on with what is new in a crawl, and serve the result if it passes every gate."""
    return run_product("retrain", config)
