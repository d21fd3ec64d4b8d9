"""One stage as a flow, chosen by the name of its node."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from flows.product import run_product
from pipelines.artifacts.run import NodeResult
from pipelines.artifacts.stage import StageConfig
from pipelines.config import FullConfig
from pipelines.recipes import demo


def node_names() -> list[str]:
    """Return the name of every node that a full run may have: those of the config's stages."""
    names = []
    for name, info in FullConfig.model_fields.items():
        default = info.get_default(call_default_factory=True)
        if isinstance(default, StageConfig):
            inner = [f"{name}.{field}" for field in type(default).model_fields]
            names += inner if type(default).__name__.endswith("Nodes") else [name]
    return names


Node = Annotated[
    str,
    Field(title="Stage", description="The stage to build.", json_schema_extra={"enum": list(node_names())}),
]


@flow(name="stage", persist_result=False, validate_parameters=False)
def stage(node: Node, config: FullConfig = demo()) -> State[list[NodeResult]]:  # noqa: B008 - a recipe is frozen
    """Build one stage of a full run, and what it needs that the store lacks."""
    return run_product("full", config, node)
