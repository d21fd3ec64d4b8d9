"""The flows that end in a model."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.product import run_product
from pipelines.artifacts.run import NodeResult
from pipelines.config import PostTrainConfig, PretrainProductConfig
from pipelines.products import part_of
from pipelines.recipes import demo

PRETRAIN = part_of(PretrainProductConfig, demo())
POST_TRAIN = part_of(PostTrainConfig, demo())


@flow(name="pretrain", persist_result=False, validate_parameters=False)
def pretrain(config: PretrainProductConfig = PRETRAIN) -> State[list[NodeResult]]:
    """Train a base model on the clean corpus and score it."""
    return run_product("pretrain", config)


@flow(name="post-train", persist_result=False, validate_parameters=False)
def post_train(config: PostTrainConfig = POST_TRAIN) -> State[list[NodeResult]]:
    """Fine-tune the base model and align it with preferences."""
    return run_product("post-train", config)
