"""Pieces of wiring that several products share."""

from pipelines.alignment.align import ALIGN
from pipelines.alignment.reward import REWARD
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.manifest import Artifact, Output
from pipelines.artifacts.run import Run
from pipelines.compression.quantize import QUANTIZE
from pipelines.config import (
    DedupOnlyConfig,
    Packaged,
    PostTrained,
    PrepareCorpusConfig,
    PretrainProductConfig,
    RetrainConfig,
)
from pipelines.corpus.annotate import ANNOTATE
from pipelines.corpus.examples import EXAMPLES
from pipelines.corpus.ingest import INGEST
from pipelines.corpus.train_toxicity import TRAIN_TOXICITY
from pipelines.finetuning.chat import CHAT
from pipelines.finetuning.sft import SFT
from pipelines.serving.package import PACKAGE


def crawl(config: DedupOnlyConfig, run: Run) -> tuple[Artifact | None, Artifact]:
    """Return the examples, where the source is made of their objects, and the documents."""
    if config.ingest.source.kind != "docs":
        return None, run(INGEST, config.ingest)
    examples = run(EXAMPLES, config.examples)
    return examples, run(INGEST, config.ingest, objects=examples["objects"])


def annotated(config: PrepareCorpusConfig, run: Run, crawled: Artifact) -> Artifact:
    """Return the documents with their scores."""
    trained = run(TRAIN_TOXICITY, config.train_toxicity) if config.train_toxicity.sets else None
    weights = trained["weights"] if trained else None
    return run(ANNOTATE, config.annotate, documents=crawled["documents"], classifier=weights)


def post_trained(
    config: PostTrained, run: Run, base: Artifact, examples: Artifact
) -> tuple[Artifact, Artifact | None, Artifact]:
    """Return the fine-tuned model, the reward model where one is asked for, and the aligned model."""
    template = run(CHAT, config.chat)
    sft = run(
        SFT,
        config.sft,
        model=base["model"],
        template=template["template"],
        instructions=examples["instructions"],
    )
    reward = None
    if config.align.method == "grpo" or config.reward.always:
        reward = run(REWARD, config.reward, model=sft["model"], preferences=examples["preferences"])
    judge = reward["model"] if reward and config.align.method == "grpo" else None
    aligned = run(ALIGN, config.align, model=sft["model"], preferences=examples["preferences"], reward=judge)
    return sft, reward, aligned


def packaged(
    config: Packaged, run: Run, target: Output, heldout: Output, scores: Output
) -> tuple[Artifact, Artifact, Artifact]:
    """Return the target in eight and in four bits, and the bundle of all three."""
    int8 = run(QUANTIZE, config.quantize.int8, node="quantize.int8", model=target, heldout=heldout)
    int4 = run(QUANTIZE, config.quantize.int4, node="quantize.int4", model=target, heldout=heldout)
    bundle = run(PACKAGE, config.package, model=target, int8=int8["model"], int4=int4["model"], scores=scores)
    return int8, int4, bundle


def evaluation_sets_are_searched_for(config: PretrainProductConfig | RetrainConfig) -> None:
    """Raise UserError where a mirror's benchmarks are scored and the corpus is not searched for their items."""
    for name in type(config.evaluate).model_fields:
        node = getattr(config.evaluate, name)
        if node.tasks and node.mirror and node.mirror != config.decontaminate.mirror:
            raise UserError(
                f"decontaminate.mirror: {str(config.decontaminate.mirror)!r} is not the mirror of evaluate.{name}, "
                f"{str(node.mirror)!r}, whose items would stay in the corpus; set both to the same folder"
            )
