"""What other corpora a model is trained on beside the run's own, and how much of each."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, Field

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import FileRoot, Root, source_files
from pipelines.artifacts.stage import StageConfig

FIELD = "pretrain.mixture.corpora"
WEIGHT = "Share of the samples, in proportion to the other weights."
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


def weighed(shards: Sequence[Path]) -> tuple[CorpusConfig, ...]:
    """Return the corpora of a mixture in proportion to their tokens, 1 in all; raise UserError where one has none."""
    tokens = [tokens_of(folder) for folder in shards]
    return tuple(
        CorpusConfig(shards=folder, weight=count / sum(tokens)) for folder, count in zip(shards, tokens, strict=True)
    )


def tokens_of(shards: Path) -> int:
    """Return how many tokens a split holds, by its index; raise UserError where it has none."""
    try:
        return int(json.loads((shards / "index.json").read_text())["tokens"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{FIELD}: {shards} has no index of tokens ({error!r}); build it again") from error
