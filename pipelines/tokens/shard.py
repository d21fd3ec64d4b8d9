"""The `shard` stage: documents as one stream of token ids in memory-mapped files, split by document."""

from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import Metrics, Stage, StageConfig


class ShardConfig(StageConfig):
    """How the corpus is split, ordered and cut into files."""

    model_config = ConfigDict(title="Token shards")
    runtime: ClassVar[frozenset[str]] = frozenset({"workers"})
    heldout_fraction: float = Field(
        0.05, gt=0, le=0.5, description="Share of the documents that no model is trained on."
    )
    shard_bytes: int = Field(1 << 27, ge=1_024, le=1 << 34, description="Size of a shard file at most, in bytes.")
    seed: int = Field(0, ge=0, lt=2**32, description="Which documents are held out, and the order of all.")
    workers: int = Field(1, ge=1, le=256, description="Threads that encode; each holds some 4 MiB of text.")


def shard(config: ShardConfig, *, documents: Path, tokenizer: Path, out: Path) -> Metrics:
    """Write `train/` and `heldout/` shards of the documents in an order drawn by the seed, and copy the tokenizer.

    A document belongs to a split, and has its place in it, by its id and the seed alone. Raises UserError when there
    are fewer than two documents, as neither split may be empty.
    """
    from pipelines.tokens.sharding import build

    return build(config, documents, tokenizer, out)


SHARD = Stage("shard", version=2, run=shard, libraries=("numpy", "pyarrow", "tiktoken", "tokenizers"))
