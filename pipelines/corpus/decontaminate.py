"""The `decontaminate` stage: documents that hold a piece of an evaluation item leave the corpus."""

from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, Field

from pipelines.artifacts.pins import FileRoot, Root, source_files
from pipelines.artifacts.stage import Metrics, Stage
from pipelines.corpus.execution import ShardedConfig

SUFFIXES = (".parquet", ".jsonl")


class DecontaminateConfig(ShardedConfig):
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
    near_share: float = Field(
        0.4,
        ge=0.2,
        le=1,
        description="Share of a text's short n-grams that makes a passage an edited copy; 1 looks for none",
    )
    near_ngram_words: int = Field(3, ge=2, le=13, description="Words in those n-grams.")
    near_min_shared: int = Field(
        8,
        ge=3,
        le=200,
        description="Fewest n-grams that an edited copy must hold: by a share alone, short texts are alike by chance",
    )
    mirror: Path | None = Field(
        None, description="Folder of evaluation sets, Parquet or JSONL, laid out by their ids on the hub."
    )

    def roots(self) -> dict[str, Root]:
        """Return the mirror's files."""
        if self.mirror is None:
            return {}
        field = "decontaminate.mirror"
        return {"mirror": FileRoot(source_files(self.mirror, SUFFIXES, field), field)}


def decontaminate(
    config: DecontaminateConfig,
    *,
    documents: Path,
    questions: Path | None = None,
    instructions: Path | None = None,
    preferences: Path | None = None,
    out: Path,
) -> Metrics:
    """Write the documents that hold no item of the run's own held-out sets or of the mirror, and list the others.

    Unedited, a document holds an item if they share an n-gram of `ngram_words`; edited, if a passage holds
    `near_share` of the item's short n-grams. Of a multiple-choice item the question, the right answer and the two with
    all choices in order are looked for. A wrong choice alone convicts nobody: it is another thing's truth. A document
    is dropped whole.
    """
    config.prepare()
    from pipelines.corpus.contamination import build

    sets = {"questions": questions, "instructions": instructions, "preferences": preferences}
    return build(config, documents, sets, out)


DECONTAMINATE = Stage(
    "decontaminate", version=2, run=decontaminate, libraries=("numpy", "pyarrow", "xxhash"), resumable=True
)
