"""The wiring, written once: what each product does and in what order."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pipelines.artifacts.manifest import Artifact, Output
from pipelines.artifacts.run import Outcome, Run
from pipelines.artifacts.stage import StageConfig
from pipelines.compression.distill import DISTILL
from pipelines.config import (
    DedupOnlyConfig,
    EvaluateAndPromoteConfig,
    FullConfig,
    PostTrainConfig,
    PrepareCorpusConfig,
    PretrainProductConfig,
    ReleaseConfig,
    RetrainConfig,
)
from pipelines.corpus.audit import AUDIT
from pipelines.corpus.decontaminate import DECONTAMINATE
from pipelines.corpus.dedup import DEDUP
from pipelines.corpus.examples import EXAMPLES
from pipelines.corpus.filter import FILTER
from pipelines.evaluation.evaluate import EVALUATE
from pipelines.evaluation.promotion import evaluate_and_promote, promote
from pipelines.parts import annotated, crawl, evaluation_sets_are_searched_for, packaged, post_trained
from pipelines.pretraining.combination import check_combination, check_goes_on
from pipelines.pretraining.pretrain import PRETRAIN
from pipelines.reporting.report import REPORT
from pipelines.retraining import conclude_retraining, retrain
from pipelines.tokens.export_shards import EXPORT_SHARDS
from pipelines.tokens.shard import SHARD
from pipelines.tokens.tokenizer import TOKENIZER

C = TypeVar("C", bound=StageConfig)


@dataclass(frozen=True)
class Corpus:
    """A clean corpus and the examples that were kept out of it."""

    examples: Artifact
    crawled: Artifact
    scored: Artifact
    filtered: Artifact
    unique: Artifact
    clean: Artifact
    audit: Artifact


@dataclass(frozen=True)
class Base:
    """A pre-trained model, the shards it saw and the corpus behind them."""

    corpus: Corpus
    tokenizer: Artifact
    shards: Artifact
    exported: Artifact | None
    model: Artifact
    scores: Artifact


@dataclass(frozen=True)
class PostTrained:
    """The models of post-training."""

    base: Base
    sft: Artifact
    reward: Artifact | None
    aligned: Artifact


@dataclass(frozen=True)
class Released:
    """The packaged model and what was measured on the way."""

    trained: PostTrained
    student: Artifact
    scores: dict[str, Artifact]
    int8: Artifact
    int4: Artifact
    bundle: Artifact


def dedup_only(config: DedupOnlyConfig, run: Run) -> Artifact:
    """Read a crawl, keep one document of each cluster of duplicates, and report."""
    _, crawled = crawl(config, run)
    unique = run(DEDUP, config.dedup, documents=crawled["documents"])
    return run(
        REPORT,
        config.report,
        crawled=crawled["documents"],
        unique=unique["documents"],
        clusters=unique["clusters"],
    )


def prepare_corpus(config: PrepareCorpusConfig, run: Run) -> Corpus:
    """Make a clean corpus: scored, filtered, deduplicated and free of the evaluation's items."""
    examples, crawled = crawl(config, run)
    examples = examples or run(EXAMPLES, config.examples)
    scored = annotated(config, run, crawled)
    filtered = run(FILTER, config.filter, documents=scored["documents"])
    unique = run(DEDUP, config.dedup, documents=filtered["documents"])
    clean = run(
        DECONTAMINATE,
        config.decontaminate,
        documents=unique["documents"],
        questions=examples["questions"],
        instructions=examples["instructions"],
        preferences=examples["preferences"],
    )
    audited = run(AUDIT, config.audit, documents=clean["documents"])
    return Corpus(examples, crawled, scored, filtered, unique, clean, audited)


def reported_corpus(config: PrepareCorpusConfig, run: Run) -> Artifact:
    """Make a clean corpus and report on it."""
    return run(REPORT, config.report, node=None, **_corpus_facts(prepare_corpus(config, run)))


def _corpus_facts(corpus: Corpus) -> dict[str, Output]:
    """Return what a report shows of a corpus."""
    return {
        "crawled": corpus.crawled["documents"],
        "filtered": corpus.filtered["documents"],
        "dropped": corpus.filtered["dropped"],
        "unique": corpus.unique["documents"],
        "clusters": corpus.unique["clusters"],
        "clean": corpus.clean["documents"],
        "audit": corpus.audit["audit"],
    }


def pretrain(config: PretrainProductConfig, run: Run) -> Base:
    """Train a base model on the clean corpus and score it."""
    check_combination(config.pretrain)
    evaluation_sets_are_searched_for(config)
    corpus = prepare_corpus(config, run)
    tokenizer = run(TOKENIZER, config.tokenizer, documents=corpus.clean["documents"])
    shards = run(SHARD, config.shard, documents=corpus.clean["documents"], tokenizer=tokenizer["tokenizer"])
    exported = None
    if config.export_shards.formats:
        exported = run(EXPORT_SHARDS, config.export_shards, train=shards["train"], heldout=shards["heldout"])
    model = run(
        PRETRAIN,
        config.pretrain,
        train=shards["train"],
        heldout=shards["heldout"],
        tokenizer=tokenizer["tokenizer"],
    )
    scores = run(
        EVALUATE,
        config.evaluate.base,
        node="evaluate.base",
        model=model["model"],
        heldout=shards["heldout"],
        train=shards["train"],
        questions=corpus.examples["questions"],
    )
    return Base(corpus, tokenizer, shards, exported, model, scores)


def post_train(config: PostTrainConfig, run: Run) -> PostTrained:
    """Teach the base model to answer, and to prefer right answers."""
    check_goes_on(config.pretrain)
    base = pretrain(config, run)
    sft, reward, aligned = post_trained(config, run, base.model, base.corpus.examples)
    return PostTrained(base, sft, reward, aligned)


def release(config: ReleaseConfig, run: Run) -> Released:
    """Distil a student, score the models, quantize and package the target."""
    trained = post_train(config, run)
    base, examples = trained.base, trained.base.corpus.examples
    student = run(
        DISTILL,
        config.distill,
        teacher=trained.aligned["model"],
        train=base.shards["train"],
        instructions=examples["instructions"],
    )
    models = {"base": base.model, "sft": trained.sft, "aligned": trained.aligned, "student": student}
    scores = {"base": base.scores}
    for name in sorted({config.target, "student"} - {"base"}):
        scores[name] = run(
            EVALUATE,
            getattr(config.evaluate, name),
            node=f"evaluate.{name}",
            model=models[name]["model"],
            heldout=base.shards["heldout"],
            train=base.shards["train"],
            questions=examples["questions"],
        )
    target, heldout = models[config.target]["model"], base.shards["heldout"]
    int8, int4, bundle = packaged(config, run, target, heldout, scores[config.target]["scores"])
    return Released(trained, student, scores, int8, int4, bundle)


def full(config: FullConfig, run: Run) -> Artifact:
    """Take a crawl to a packaged model and write the report of the whole chain."""
    done = release(config, run)
    base, corpus = done.trained.base, done.trained.base.corpus
    return run(
        REPORT,
        config.report,
        **_corpus_facts(corpus),
        shards=base.shards["train"],
        exported=base.exported["summary"] if base.exported else None,
        pretrain=base.model["curve"],
        sft=done.trained.sft["curve"],
        reward=done.trained.reward["scores"] if done.trained.reward else None,
        align=done.trained.aligned["scores"],
        distill=done.student["curve"],
        node=None,
        **{f"evaluate_{name}": artifact["scores"] for name, artifact in done.scores.items()},
        int8=done.int8["scores"],
        int4=done.int4["scores"],
        bundle=done.bundle["bundle"],
    )


@dataclass(frozen=True)
class Product:
    """A product by its name on the command line: its config, its wiring and what it is for."""

    name: str
    config: type[StageConfig]
    wire: Callable[[Any, Run], object]
    purpose: str
    act: Callable[..., Outcome] | None = None
    """What is done once all its stages are, with the store, the config and what `wire` returned."""


PRODUCTS = {
    product.name: product
    for product in (
        Product("full", FullConfig, full, "crawl to packaged model, with a report"),
        Product("prepare-corpus", PrepareCorpusConfig, reported_corpus, "clean, deduplicated documents, with a report"),
        Product("dedup-only", DedupOnlyConfig, dedup_only, "deduplicated documents, with a report, nothing else"),
        Product("pretrain", PretrainProductConfig, pretrain, "base model with its scores"),
        Product("post-train", PostTrainConfig, post_train, "fine-tuned and aligned model"),
        Product("release", ReleaseConfig, release, "scored, quantized and packaged model"),
        Product("retrain", RetrainConfig, retrain, "served model trained on with new data", conclude_retraining),
        Product("evaluate-and-promote", EvaluateAndPromoteConfig, evaluate_and_promote, "bundle into service", promote),
    )
}


def part_of(model: type[C], config: FullConfig) -> C:
    """Return the fields of the full recipe that a smaller product reads."""
    return model(**{name: getattr(config, name) for name in model.model_fields})
