"""What other corpora a model is trained on beside the run's own, and how much of each."""

import json
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, Field

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import FileRoot, Root, source_files
from pipelines.artifacts.stage import StageConfig

FIELD = "pretrain.mixture.corpora"
WEIGHT = "Share of the samples, in proportion to the other weights."
PARTS = 10_000
"""Of so many samples `mixture.weight` says how many are of the run's own corpus, where old corpora are replayed."""
MAX_EPOCHS = "Times that its samples are seen at most, parts of one included; then the others go on. None: no limit."


class CorpusConfig(StageConfig):
    """Another corpus of the mixture."""

    model_config = ConfigDict(title="Corpus")
    pinned: ClassVar[frozenset[str]] = frozenset({"shards"})

    shards: Path = Field(description="The `train` output of a finished shard stage; its content enters the key.")
    weight: float = Field(1.0, gt=0, le=1e6, description=WEIGHT)
    max_epochs: float | None = Field(None, gt=0, le=10_000, description=MAX_EPOCHS)

    def files(self) -> dict[str, Path]:
        """Return the files of the shards by name; raise UserError where there are none."""
        if not (self.shards / "index.json").is_file():
            raise UserError(f"{FIELD}: {str(self.shards)!r} has no index.json; name the split of a shard stage")
        return source_files(self.shards, (".bin", ".json", ".parquet"), FIELD)


class MixtureConfig(StageConfig):
    """How much a model sees of the run's own corpus and of others, fixed by the seed of the run."""

    model_config = ConfigDict(title="Mixture")

    weight: float = Field(1.0, gt=0, le=1e6, description=f"The run's own corpus. {WEIGHT}")
    max_epochs: float | None = Field(None, gt=0, le=10_000, description=f"The run's own corpus. {MAX_EPOCHS}")
    corpora: tuple[CorpusConfig, ...] = Field(
        (), max_length=31, description="Other corpora, made with the same tokenizer."
    )

    def roots(self) -> dict[str, Root]:
        """Return the shards of the other corpora."""
        return {f"corpora.{number}": FileRoot(corpus.files(), FIELD) for number, corpus in enumerate(self.corpora)}


def weighed(shards: Sequence[Path], weight: int) -> tuple[CorpusConfig, ...]:
    """Return the corpora with whole weights in proportion to their tokens, `weight` in all and at least 1 each.

    Weights of a common measure keep the turns of a mixture short. Raises UserError where there are more corpora than
    weight, or one that has no index.
    """
    if weight < len(shards):
        raise UserError(f"{FIELD}: {len(shards)} old corpora in a share of {weight / PARTS:g}; replay more of them")
    tokens = [tokens_of(folder) for folder in shards]
    left, held = weight - len(shards), sum(tokens)
    ends = [1 + round(left * end / held) + number for number, end in enumerate(accumulate(tokens))]
    weights = [end - start for start, end in pairwise([0, *ends])]
    return tuple(CorpusConfig(shards=folder, weight=own) for folder, own in zip(shards, weights, strict=True))


def tokens_of(shards: Path) -> int:
    """Return how many tokens a split holds, by its index; raise UserError where it has none."""
    try:
        return int(json.loads((shards / "index.json").read_text())["tokens"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{FIELD}: {shards} has no index of tokens ({error!r}); build it again") from error
