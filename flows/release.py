"""The flows that end in a bundle, and that put one into service."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.product import run_product
from pipelines.artifacts.run import NodeResult
from pipelines.config import EvaluateAndPromoteConfig, ReleaseConfig
from pipelines.products import part_of
from pipelines.recipes import demo

RELEASE = part_of(ReleaseConfig, demo())
EVALUATE_AND_PROMOTE = part_of(EvaluateAndPromoteConfig, demo())


@flow(name="release", persist_result=False, validate_parameters=False)
def release(config: ReleaseConfig = RELEASE) -> State[list[NodeResult]]:
    """Distil, score, quantize and package."""
    return run_product("release", config)


@flow(name="evaluate-and-promote", persist_result=False, validate_parameters=False)
def evaluate_and_promote(config: EvaluateAndPromoteConfig = EVALUATE_AND_PROMOTE) -> State[list[NodeResult]]:
    """Hold a packaged model against the served one and serve it if it passes every gate."""
    return run_product("evaluate-and-promote", config)
