"""The `train_toxicity` stage: labelled texts become the weights of a toxicity classifier, and a card of its scores."""

from collections import Counter
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from pipelines.artifacts.pins import FileRoot, Root, source_files
from pipelines.artifacts.stage import Metrics, Stage, StageConfig


class LabelledSet(StageConfig):
    """Texts of which each is known to be toxic or not."""

    model_config = ConfigDict(title="Labelled texts")
    pinned: ClassVar[frozenset[str]] = frozenset({"path"})

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$", description="What scores and card call it.")
    path: Path = Field(description="A file, a folder or a glob; .gz and .xz are unpacked.")
    format: Literal["csv", "jsonl", "lines"] = Field("csv", description="Of lines, each is a text without a label.")
    text_field: str = Field("text", min_length=1, description="Column or field that holds the text.")
    label_field: str = Field("", description="Column or field that holds the label; with none, no text is toxic.")
    toxic: tuple[str, ...] = Field((), description="Labels that mean toxic.")
    spans_field: str = Field(
        "", description="Instead of labels: the places of the toxic characters, a list of numbers."
    )
    sentences: bool = Field(
        False, description="Cut texts into sentences; one is toxic when a toxic character is in it."
    )
    max_texts: int = Field(
        200_000, ge=1, le=2_000_000, description="Texts read, from the start; one takes about 12 kB of memory."
    )
    train: bool = Field(True, description="Trained on; otherwise it is scored alone, as text from elsewhere.")
    origin: str = Field("", description="Where it is from, and its licence; for the card.")

    @model_validator(mode="after")
    def _labelled_in_one_way(self) -> Self:
        if self.spans_field and self.label_field:
            raise ValueError("give label_field or spans_field, not both")
        if bool(self.label_field) != bool(self.toxic):
            raise ValueError("label_field and toxic, the labels that mean toxic, go together")
        return self

    @property
    def has_labels(self) -> bool:
        """Whether some of its texts may be toxic."""
        return bool(self.label_field or self.spans_field)

    def files(self) -> dict[str, Path]:
        """Return the files by their names inside the source, in order; raise UserError when there is none."""
        return source_files(self.path, ("",), f"train_toxicity.sets.{self.name}")


class TrainToxicityConfig(StageConfig):
    """What the classifier learns from; without sets it is not trained, and annotate takes the weights it ships with."""

    model_config = ConfigDict(title="Train the toxicity classifier")

    sets: tuple[LabelledSet, ...] = Field((), max_length=32, description="Labelled sets, two or more with labels.")
    held_out: float = Field(0.2, gt=0, lt=1, description="Share of each set that is not trained on but scored.")
    regularisation: float = Field(
        1.0, gt=0, le=1e4, description="Inverse strength of L2 regularisation (C of scikit-learn)."
    )
    max_iterations: int = Field(500, ge=1, le=10_000, description="Most iterations of L-BFGS.")
    resamples: int = Field(1_000, ge=100, le=100_000, description="Bootstrap resamples behind each interval.")
    seed: int = Field(0, ge=0, lt=2**32, description="What is held out, and the bootstrap.")

    @model_validator(mode="after")
    def _scored_out_of_domain(self) -> Self:
        twice = [name for name, count in Counter(part.name for part in self.sets).items() if count > 1]
        if twice:
            raise ValueError(f"sets: {twice[0]!r} names two sets; give each its own name")
        labelled = [part for part in self.sets if part.has_labels]
        if self.sets and (len(labelled) < 2 or not any(part.train for part in labelled)):
            raise ValueError(
                "sets: two with labels are needed, one of them trained on, since a score on what the classifier has "
                "learned from says nothing of other text; add a set, with train false if it is only to be scored"
            )
        return self

    def roots(self) -> dict[str, Root]:
        """Return the labelled files."""
        return {f"sets.{part.name}": FileRoot(part.files(), f"train_toxicity.sets.{part.name}") for part in self.sets}


def train_toxicity(config: TrainToxicityConfig, *, out: Path) -> Metrics:
    """Write `weights/toxicity.safetensors` and `card/card.json`; return the scores, which the log shows as well.

    A set with labels has an AUROC in domain, on its held-out texts, if it was trained on; and one out of domain, on all
    its texts, of the classifier that was trained without it. Each has a bootstrap interval of 95%. Of the texts,
    `in = kept + sum of dropped.REASON`. Raises UserError where a file cannot be read or lacks one of the two labels.
    """
    from pipelines.corpus.toxic.training import build

    return build(config, out)


TRAIN_TOXICITY = Stage(
    "train_toxicity", version=1, run=train_toxicity, libraries=("numpy", "safetensors", "scikit-learn", "scipy")
)
