"""The flows of the data half."""

from prefect import flow
from prefect.client.schemas.objects import State

from flows.product import run_product
from pipelines.artifacts.run import NodeResult
from pipelines.config import DedupOnlyConfig, PrepareCorpusConfig
from pipelines.products import part_of
from pipelines.recipes import demo

DEDUP_ONLY = part_of(DedupOnlyConfig, demo())
PREPARE_CORPUS = part_of(PrepareCorpusConfig, demo())


@flow(name="dedup-only", persist_result=False, validate_parameters=False)
def dedup_only(config: DedupOnlyConfig = DEDUP_ONLY) -> State[list[NodeResult]]:
    """Read a crawl and keep one document of each cluster of duplicates."""
    return run_product("dedup-only", config)


@flow(name="prepare-corpus", persist_result=False, validate_parameters=False)
def prepare_corpus(config: PrepareCorpusConfig = PREPARE_CORPUS) -> State[list[NodeResult]]:
    """Make a clean corpus: scored, filtered, deduplicated, decontaminated."""
    return run_product("prepare-corpus", config)
