"""The `dedup` stage: of documents that are equal or nearly so, one is kept."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from pipelines.artifacts.pins import FileRoot, Root, source_files
from pipelines.artifacts.stage import Metrics, Stage, StageConfig

INDEX_SUFFIXES = (".parquet", ".bin", ".json")


class RepeatedConfig(StageConfig):
    """Text that many documents repeat: menus, notices, licences."""

    model_config = ConfigDict(title="Repeated text")
    unit: Literal["off", "lines", "paragraphs"] = Field(
        "off", description="What is counted and cut; paragraphs are set apart by blank lines."
    )
    max_documents: int = Field(
        100, ge=1, description="A unit in more documents than this is cut from all but the one that ranks first."
    )
    min_chars: int = Field(
        1, ge=1, le=10_000, description="Shorter units, counted without outer blanks, are never cut."
    )


class DedupConfig(StageConfig):
    """How alike two documents are before one of them goes, and which one stays."""

    model_config = ConfigDict(title="Deduplication")
    runtime: ClassVar[frozenset[str]] = frozenset({"workers"})
    pinned: ClassVar[frozenset[str]] = frozenset({"index"})

    threshold: float = Field(
        0.8,
        ge=0.3,
        le=1,
        description="Share of common shingles (Jaccard) from which two documents are near-duplicates.",
    )
    shingle_words: int = Field(5, ge=1, le=50, description="Words in a shingle.")
    permutations: int = Field(
        128, ge=16, le=1_024, description="Most numbers of a MinHash signature, of which the bands are made."
    )
    candidate_recall: float = Field(
        0.999, gt=0.5, lt=1, description="Least chance that a pair at the threshold is found and compared."
    )
    seed: int = Field(1, ge=0, lt=2**32, description="The permutations of MinHash.")
    keep: Literal["longest", "oldest", "best"] = Field(
        "longest",
        description="Which document of a cluster stays: the longest, the oldest by crawl_time, or the best by `score`; "
        "of equal ones the longest, then that with the smallest id.",
    )
    score: str = Field(
        "language_score", min_length=1, description="Column of numbers for `keep: best`, the higher the better."
    )
    by_url: bool = Field(False, description="Keep one document of each address (RFC 3986 form, no fragment).")
    repeated: RepeatedConfig = Field(RepeatedConfig(), description="Lines or paragraphs that many documents repeat.")
    keep_index: bool = Field(
        True, description="Publish what later documents are compared with: some 10 bytes a word of text."
    )
    index: Path | None = Field(
        None, description="The `index` output of a finished dedup: new documents are compared with its texts too."
    )
    indexed: Literal["stay", "compete"] = Field(
        "stay",
        description="Documents kept in `index` stay whatever comes (stay), or a better new one takes their place, "
        "as in a run over all, and the retired ones are listed (compete).",
    )
    workers: int = Field(1, ge=1, le=256, description="Threads that read, sign and write.")

    def roots(self) -> dict[str, Root]:
        """Return the files of the index."""
        if self.index is None:
            return {}
        return {"index": FileRoot(source_files(self.index, INDEX_SUFFIXES, "dedup.index"), "dedup.index")}


def dedup(config: DedupConfig, *, documents: Path, index: Path | None = None, out: Path) -> Metrics:
    """Write the documents of `documents` that no kept one equals or nearly duplicates, and who stands for the others.

    A cluster is what a chain of pairs at the threshold or above links; one document of it is kept. Neither the order
    of the documents nor their division into parts matters. An `index` that comes from the store as an input stands
    for `config.index`.
    """
    from pipelines.corpus.duplicates.build import build

    return build(config if index is None else config.model_copy(update={"index": index}), documents, out)


DEDUP = Stage("dedup", version=2, run=dedup, libraries=("numba", "numpy", "pyarrow", "xxhash"))
