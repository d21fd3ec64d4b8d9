"""The flows of the data half."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.events import emit_event

from flows.product import run_product
from pipelines.artifacts.run import NodeResult
from pipelines.config import DedupOnlyConfig, PrepareCorpusConfig
from pipelines.products import part_of
from pipelines.recipes import demo

CORPUS_PUBLISHED = "gristmill.corpus.published"
"""The event of a corpus that the store did not have."""
DEDUP_ONLY = part_of(DedupOnlyConfig, demo())
PREPARE_CORPUS = part_of(PrepareCorpusConfig, demo())


@flow(name="dedup-only", persist_result=False, validate_parameters=False)
def dedup_only(config: DedupOnlyConfig = DEDUP_ONLY) -> State[list[NodeResult]]:
    """Read a crawl and keep one document of each cluster of duplicates."""
    return run_product("dedup-only", config)


@flow(name="prepare-corpus", persist_result=False, validate_parameters=False)
def prepare_corpus(config: PrepareCorpusConfig = PREPARE_CORPUS) -> State[list[NodeResult]]:
    """Make a clean corpus: scored, filtered, deduplicated, decontaminated; announce one that the store did not have."""
    state = run_product("prepare-corpus", config)
    for result in state.data or ():
        if state.is_completed() and result.node == "decontaminate" and not result.hit:
            announce(result)
    return state


def announce(corpus: NodeResult) -> None:
    """Emit the event that a new corpus is in the store, for whoever trains on it."""
    emit_event(
        CORPUS_PUBLISHED,
        resource={
            "prefect.resource.id": f"gristmill.corpus.{corpus.manifest.key}",
            "prefect.resource.name": corpus.node,
            "gristmill.key": corpus.manifest.key,
            "gristmill.digest": corpus.manifest.outputs["documents"],
        },
        payload=dict(corpus.manifest.metrics),
    )
