"""One class a product: a field a stage, nothing else."""

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from pipelines.alignment.align import AlignConfig
from pipelines.alignment.reward import RewardConfig
from pipelines.artifacts.stage import StageConfig
from pipelines.compression.distill import DistillConfig
from pipelines.compression.quantize import QuantizeConfig
from pipelines.corpus.annotate import AnnotateConfig
from pipelines.corpus.audit import AuditConfig
from pipelines.corpus.decontaminate import DecontaminateConfig
from pipelines.corpus.dedup import DedupConfig
from pipelines.corpus.drift import DriftConfig
from pipelines.corpus.examples import ExamplesConfig
from pipelines.corpus.filter import FilterConfig
from pipelines.corpus.ingest import IngestConfig
from pipelines.corpus.train_toxicity import TrainToxicityConfig
from pipelines.evaluation.compare import CompareConfig
from pipelines.evaluation.evaluate import EvaluateConfig
from pipelines.evaluation.promotion import PromoteConfig
from pipelines.finetuning.chat import ChatConfig
from pipelines.finetuning.sft import SFTConfig
from pipelines.pretraining.pretrain import PretrainConfig
from pipelines.reporting.report import ReportConfig
from pipelines.serving.package import PackageConfig
from pipelines.tokens.export_shards import ExportShardsConfig
from pipelines.tokens.shard import ShardConfig
from pipelines.tokens.tokenizer import TokenizerConfig

Target = Literal["base", "sft", "aligned", "student"]


class EvaluateNodes(StageConfig):
    """The evaluation of each model of the chain."""

    model_config = ConfigDict(title="Evaluation")
    base: EvaluateConfig = Field(EvaluateConfig(), description="Evaluation of the pre-trained model.")
    sft: EvaluateConfig = Field(
        EvaluateConfig(), description="Evaluation of the fine-tuned model, if it is the target."
    )
    aligned: EvaluateConfig = Field(EvaluateConfig(), description="Evaluation of the aligned model.")
    student: EvaluateConfig = Field(EvaluateConfig(), description="Evaluation of the distilled model.")


class QuantizeNodes(StageConfig):
    """The quantizations of the target model."""

    model_config = ConfigDict(title="Quantization")
    int8: QuantizeConfig = Field(QuantizeConfig(bits=8), description="Eight-bit weights.")
    int4: QuantizeConfig = Field(QuantizeConfig(bits=4), description="Four-bit weights.")


class DedupOnlyConfig(StageConfig):
    """Deduplicate a crawl."""

    model_config = ConfigDict(title="Deduplication only")
    examples: ExamplesConfig = Field(ExamplesConfig(), description="Examples and, for the docs source, the objects.")
    ingest: IngestConfig = Field(IngestConfig(), description="Where the crawl is and how text is taken from it.")
    dedup: DedupConfig = Field(DedupConfig(), description="Exact and near-duplicate removal.")
    report: ReportConfig = Field(ReportConfig(), description="The run report.")

    @model_validator(mode="after")
    def _objects_for_the_docs(self) -> Self:
        if self.ingest.source.kind == "docs" and self.examples.source.kind != "docs":
            raise ValueError(
                f"ingest.source 'docs' is made of the objects of examples.source, and that is "
                f"{self.examples.source.kind!r}; set examples.source to docs as well, or ingest.source to a crawl"
            )
        return self


class PrepareCorpusConfig(DedupOnlyConfig):
    """Make a clean corpus of a crawl."""

    model_config = ConfigDict(title="Corpus preparation")
    train_toxicity: TrainToxicityConfig = Field(
        TrainToxicityConfig(), description="The classifier that annotate takes; not trained where no sets are named."
    )
    annotate: AnnotateConfig = Field(AnnotateConfig(), description="Scores as columns; nothing is dropped.")
    filter: FilterConfig = Field(FilterConfig(), description="Thresholds over the scores; PII replaced.")
    decontaminate: DecontaminateConfig = Field(DecontaminateConfig(), description="Removal of evaluation items.")
    audit: AuditConfig = Field(AuditConfig(), description="What the clean corpus holds, and how it speaks of people.")


class Tokenized(PrepareCorpusConfig):
    """A clean corpus and a vocabulary that is learnt from it."""

    tokenizer: TokenizerConfig = Field(TokenizerConfig(), description="The vocabulary.")


class Trained(StageConfig):
    """What trains a base model and scores models, for the first time and again."""

    shard: ShardConfig = Field(ShardConfig(), description="Token shards.")
    pretrain: PretrainConfig = Field(PretrainConfig(), description="The training loop.")
    evaluate: EvaluateNodes = Field(EvaluateNodes(), description="Scores with intervals.")


class PostTrained(StageConfig):
    """What teaches a base model to answer."""

    chat: ChatConfig = Field(ChatConfig(), description="The chat template.")
    sft: SFTConfig = Field(SFTConfig(), description="Supervised fine-tuning.")
    reward: RewardConfig = Field(RewardConfig(), description="The reward model.")
    align: AlignConfig = Field(AlignConfig(), description="Preference optimisation.")


class Packaged(StageConfig):
    """What makes a model smaller and a bundle of it."""

    target: Target = Field("aligned", description="Which model is evaluated, quantized and packaged.")
    quantize: QuantizeNodes = Field(QuantizeNodes(), description="INT8 and INT4.")
    package: PackageConfig = Field(PackageConfig(), description="The bundle.")


class DriftNodes(StageConfig):
    """The comparisons of new documents with those that the current model was made of."""

    model_config = ConfigDict(title="Drift")
    crawl: DriftConfig = Field(DriftConfig(), description="The crawl as it was read, before anything is filtered.")
    corpus: DriftConfig = Field(DriftConfig(), description="What is left to train on, and how the model reads it.")


class RetrainingConfig(StageConfig):
    """What is worth a retraining, and how much of the old corpora is seen again."""

    model_config = ConfigDict(title="Retraining")
    min_documents: int = Field(100, ge=2, description="Fewer new documents than this are nothing new.")
    min_tokens: int = Field(100_000, ge=1, description="Fewer new tokens than this are nothing new.")
    replay_share: float = Field(
        0.3, ge=0, le=0.99, description="Share of the samples that come from the corpora of the current model."
    )


class Retrained(StageConfig):
    """When a model is trained on with new data, and how much of the old it sees again."""

    drift: DriftNodes = Field(DriftNodes(), description="For retraining: how new data may differ from the old.")
    retraining: RetrainingConfig = Field(
        RetrainingConfig(), description="For retraining: what is worth it, and the replay."
    )


# pydantic lists the fields of the last base first: a form begins where the chain does
class PretrainProductConfig(Trained, Tokenized):
    """Pre-train a base model."""

    model_config = ConfigDict(title="Pre-training")
    export_shards: ExportShardsConfig = Field(
        ExportShardsConfig(), description="The shards in other trainers' formats, where some are named."
    )


class PostTrainConfig(PostTrained, PretrainProductConfig):
    """Fine-tune and align the base model."""

    model_config = ConfigDict(title="Post-training")


class ReleaseConfig(Packaged, PostTrainConfig):
    """Score, compress and package a model."""

    model_config = ConfigDict(title="Release")
    distill: DistillConfig = Field(DistillConfig(), description="A smaller student of the aligned model.")


class EvaluateAndPromoteConfig(StageConfig):
    """Hold a packaged model against the one that is served, and serve the better."""

    model_config = ConfigDict(title="Evaluation and promotion")
    compare: CompareConfig = Field(CompareConfig(), description="Paired intervals of what was gained and lost.")
    promote: PromoteConfig = Field(PromoteConfig(), description="Which packaged model, and the gates before it.")


class RetrainConfig(Retrained, EvaluateAndPromoteConfig, Packaged, PostTrained, Trained, PrepareCorpusConfig):
    """Train the current model on with new data. Its tokenizer, its examples and what it is scored on stay."""

    model_config = ConfigDict(title="Retraining run")


class FullConfig(Retrained, EvaluateAndPromoteConfig, ReleaseConfig):
    """From a crawl to a packaged model with a report; as a recipe, also how that model is trained on."""

    model_config = ConfigDict(title="Full run")
