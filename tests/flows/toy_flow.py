"""A small flow whose long stage can be stopped at any moment, and the runner that serves it: `python -m ... `."""

from pathlib import Path
from unittest.mock import patch

from prefect import flow, serve
from prefect.client.schemas.objects import State

from deployments.prefect_settings import WATCHED_TAG
from flows.product import TASKS, run_product
from pipelines.artifacts.manifest import Artifact
from pipelines.artifacts.run import NodeResult, Run
from pipelines.artifacts.stage import StageConfig
from pipelines.products import PRODUCTS, Product
from tasks.bridge import as_task
from tests.artifacts.toys import JOIN, MEET, SLOW, SOURCE, MeetConfig, SlowConfig, SourceConfig


class ToyConfig(StageConfig):
    source: SourceConfig = SourceConfig(path=Path(__file__).parent)
    slow: SlowConfig = SlowConfig()


def walk(config: ToyConfig, run: Run) -> Artifact:
    source = run(SOURCE, config.source)
    return run(SLOW, config.slow, text=source["text"])


class PairConfig(StageConfig):
    source: SourceConfig = SourceConfig(path=Path(__file__).parent)
    left: MeetConfig = MeetConfig(name="left")
    right: MeetConfig = MeetConfig(name="right")
    slow: SlowConfig = SlowConfig()
    join: StageConfig = StageConfig()


def pair(config: PairConfig, run: Run) -> Artifact:
    """Three stages that need the same one, and one that needs two of them."""
    text = run(SOURCE, config.source)["text"]
    left = run(MEET, config.left, node="left", text=text)
    run(SLOW, config.slow, text=text)
    right = run(MEET, config.right, node="right", text=text)
    return run(JOIN, config.join, left=left["text"], right=right["text"])


TOYS = {
    "toy": Product("toy", ToyConfig, walk, "a toy"),
    "pair": Product("pair", PairConfig, pair, "a toy with independent stages"),
}
TOY_TASKS = {stage.name: as_task(stage) for stage in (SOURCE, SLOW, MEET, JOIN)}


def run_toy(name: str, config: StageConfig) -> State[list[NodeResult]]:
    """Run a toy among the real products, and leave those as they were: a test asks for all of them."""
    with patch.dict(PRODUCTS, TOYS), patch.dict(TASKS, TOY_TASKS):
        return run_product(name, config)


@flow(name="toy", persist_result=False)
def toy(config: ToyConfig = ToyConfig()) -> State[list[NodeResult]]:  # noqa: B008 - frozen
    """Count slowly."""
    return run_toy("toy", config)


@flow(name="pair", persist_result=False)
def side_by_side(config: PairConfig = PairConfig()) -> State[list[NodeResult]]:  # noqa: B008 - frozen
    """Build what can be built at once."""
    return run_toy("pair", config)


if __name__ == "__main__":
    from prefect.deployments.runner import EntrypointType

    from tests.flows import toy_flow

    serve(toy_flow.toy.to_deployment("toy", tags=[WATCHED_TAG], entrypoint_type=EntrypointType.MODULE_PATH))
