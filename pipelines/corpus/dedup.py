"""The `dedup` stage: of documents that are equal or nearly so, one is kept."""

from pathlib import Path

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import Metrics, Stage, StageConfig


class DedupConfig(StageConfig):
    """How alike two documents are before one of them goes."""

    model_config = ConfigDict(title="Deduplication")
    threshold: float = Field(
        0.8,
        ge=0.3,
        le=1,
        description="Share of common shingles (Jaccard) from which two documents are near-duplicates.",
    )
    shingle_words: int = Field(5, ge=1, le=50, description="Words in a shingle.")
    permutations: int = Field(128, ge=16, le=1_024, description="Numbers in a MinHash signature, four bytes each.")
    candidate_recall: float = Field(
        0.999, gt=0.5, lt=1, description="Least chance that a pair at the threshold is found and compared."
    )
    seed: int = Field(1, ge=0, lt=2**32, description="The permutations of MinHash.")


def dedup(config: DedupConfig, *, documents: Path, out: Path) -> Metrics:
    """Write the documents of `documents` that no kept one equals or nearly duplicates, and who stands for the others.

    A cluster is what a chain of pairs at the threshold or above links. It keeps its longest document, of equally long
    ones that with the smallest id. Neither the order of the documents nor their division into parts matters.
    """
    from pipelines.corpus.duplicates import build

    return build(config, documents, out)


DEDUP = Stage("dedup", version=1, run=dedup, libraries=("datasketch", "numpy", "pyarrow", "xxhash"))
