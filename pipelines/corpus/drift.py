"""The `drift` stage: whether new documents are drawn from where the old ones came from."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from pipelines.artifacts.stage import Metrics, Stage, StageConfig

MEASURES = ("language", "source", "length", "toxicity", "perplexity")


class MeasureConfig(StageConfig):
    """How much one measure may change, and what follows where it changed more."""

    model_config = ConfigDict(title="Measure of drift")
    max_effect: float = Field(
        0.1, ge=0, le=1, description="Greatest change: of shares (total variation), or of distributions (KS distance)."
    )
    on_drift: Literal["warn", "stop"] = Field("warn", description="Say it and go on, or end the run before training.")


class DriftConfig(StageConfig):
    """What is compared, and what counts as drift: an effect above its threshold that is also significant."""

    model_config = ConfigDict(title="Drift")
    runtime: ClassVar[frozenset[str]] = frozenset({"device"})

    language: MeasureConfig = Field(
        MeasureConfig(max_effect=0.1, on_drift="stop"), description="Shares of the languages; chi-square."
    )
    source: MeasureConfig = Field(
        MeasureConfig(max_effect=0.5), description="Shares of the sources, which are domains; chi-square."
    )
    length: MeasureConfig = Field(
        MeasureConfig(max_effect=0.3), description="Characters of a document; Kolmogorov-Smirnov."
    )
    toxicity: MeasureConfig = Field(
        MeasureConfig(max_effect=0.02, on_drift="stop"),
        description="Share of toxic documents; an exact test of its rise, as a fall is no fault.",
    )
    perplexity: MeasureConfig = Field(
        MeasureConfig(max_effect=0.5),
        description="Bits a token under the current model; Kolmogorov-Smirnov against its held-out documents.",
    )
    toxic_score: float = Field(0.5, gt=0, lt=1, description="Toxicity score from which a document counts as toxic.")
    alpha: float = Field(
        0.01, gt=0, lt=0.5, description="Chance of any false alarm; shared out equally among the measures."
    )
    documents: int = Field(
        10_000, ge=20, le=1_000_000, description="Documents of each side that are compared at most, drawn by their ids."
    )
    categories: int = Field(
        100, ge=2, le=10_000, description="Languages or sources that are told apart; the rarer ones count as one."
    )
    resamples: int = Field(
        2_000, ge=100, le=100_000, description="Tables drawn under no drift, behind the p-values of shares."
    )
    perplexity_documents: int = Field(
        256, ge=20, le=100_000, description="Documents of each side that the model reads at most."
    )
    perplexity_tokens: int = Field(256, ge=8, le=1 << 17, description="Tokens of each that the model reads at most.")
    seed: int = Field(0, ge=0, lt=2**32, description="Which documents and tables are drawn.")
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="Where the model computes.")

    @model_validator(mode="after")
    def _significance_can_be_reached(self) -> Self:
        least = 1 / (self.resamples + 1)
        if least >= self.alpha / len(MEASURES):
            raise ValueError(
                f"resamples: {self.resamples:,} give no p-value below {least:.2g} and alpha {self.alpha:g} over "
                f"{len(MEASURES)} measures asks for {self.alpha / len(MEASURES):.2g}; give more"
            )
        return self

    def measure(self, name: str) -> MeasureConfig:
        """Return the threshold of a measure."""
        found: MeasureConfig = getattr(self, name)
        return found


def drift(
    config: DriftConfig, *, fresh: Path, model: Path | None = None, tokens: Path | None = None, out: Path, **old: Path
) -> Metrics:
    """Write to `drift/drift.json` how the documents of `fresh` differ from the old ones, a row a measure.

    The inputs named `old_0`, `old_1` and so on are the old documents, scored as the new ones are. With `model` its
    perplexity is compared too: on the shards `tokens` of new documents, and on `heldout_0` and so on, which it was not
    trained on. Returns of each measure `effect`, `p` and `drifted`, and `stops`, the drifted measures that end a run.
    """
    from pipelines.corpus.drifting import compare

    return compare(config, fresh, old, model, tokens, out)


DRIFT = Stage("drift", version=1, run=drift, libraries=("numpy", "pyarrow", "torch", "transformers", "xxhash"))
