"""The `decontaminate` stage: documents that hold a piece of an evaluation item leave the corpus."""

from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, Field

from pipelines.artifacts.pins import FileRoot, Root, source_files
from pipelines.artifacts.stage import Metrics, Stage, StageConfig

SUFFIXES = (".parquet", ".jsonl")


class DecontaminateConfig(StageConfig):
    """Which evaluation sets are looked for, and how long a piece of one must be."""

    model_config = ConfigDict(title="Decontamination")
    pinned: ClassVar[frozenset[str]] = frozenset({"mirror"})

    ngram_words: int = Field(13, ge=5, le=50, description="Words in a row that a document and an item must share.")
    min_words: int = Field(
        8, ge=3, le=50, description="A text of an item shorter than ngram_words is looked for as a whole from here on."
    )
    common_items: int = Field(
        10, ge=1, description="A piece in more items of one benchmark than this is its template and convicts nobody."
    )
    mirror: Path | None = Field(
        None, description="Folder of evaluation sets, Parquet or JSONL, laid out by their ids on the hub."
    )

    def roots(self) -> dict[str, Root]:
        """Return the mirror's files."""
        return {} if self.mirror is None else {"mirror": FileRoot(source_files(self.mirror, SUFFIXES))}


def decontaminate(config: DecontaminateConfig, *, documents: Path, questions: Path | None = None, out: Path) -> Metrics:
    """Write the documents that share no n-gram with an item of `questions` or of the mirror, and list the others.

    Of a multiple-choice item the question, the right answer and the two with all choices in order are looked for. A
    wrong choice alone convicts nobody: it is another thing's truth. A document is dropped whole.
    """
    from pipelines.corpus.contamination import build

    return build(config, documents, questions, out)


DECONTAMINATE = Stage("decontaminate", version=1, run=decontaminate, libraries=("pyarrow", "xxhash"))
