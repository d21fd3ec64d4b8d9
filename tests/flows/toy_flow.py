"""A small flow whose long stage can be stopped at any moment, and the runner that serves it: `python -m ... `."""

from pathlib import Path

from prefect import flow, serve
from prefect.client.schemas.objects import State

from flows.product import TASKS, run_product
from pipelines.artifacts.manifest import Artifact
from pipelines.artifacts.run import NodeResult, Run
from pipelines.artifacts.stage import StageConfig
from pipelines.products import PRODUCTS, Product
from tasks.bridge import as_task
from tests.artifacts.toys import SLOW, SOURCE, SlowConfig, SourceConfig


class ToyConfig(StageConfig):
    source: SourceConfig = SourceConfig(path=Path(__file__).parent)
    slow: SlowConfig = SlowConfig()


def walk(config: ToyConfig, run: Run) -> Artifact:
    source = run(SOURCE, config.source)
    return run(SLOW, config.slow, text=source["text"])


PRODUCTS["toy"] = Product("toy", ToyConfig, walk, "a toy")
TASKS.update({stage.name: as_task(stage) for stage in (SOURCE, SLOW)})


@flow(name="toy", persist_result=False)
def toy(config: ToyConfig = ToyConfig()) -> State[list[NodeResult]]:  # noqa: B008 - frozen
    """Count slowly."""
    return run_product("toy", config)


if __name__ == "__main__":
    from prefect.deployments.runner import EntrypointType

    from tests.flows import toy_flow

    serve(toy_flow.toy.to_deployment("toy", entrypoint_type=EntrypointType.MODULE_PATH))
