"""The flow that ends in a bundle."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.product import run_product
from pipelines.artifacts.run import NodeResult
from pipelines.config import ReleaseConfig
from pipelines.products import part_of
from pipelines.recipes import demo

RELEASE = part_of(ReleaseConfig, demo())


@flow(name="release", persist_result=False, validate_parameters=False)
def release(config: ReleaseConfig = RELEASE) -> State[list[NodeResult]]:
    """Distil, score, quantize and package."""
    return run_product("release", config)
