"""The `export_shards` stage: token shards in the files that other trainers read."""

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import Metrics, Stage, StageConfig

Format = Literal["megatron", "datatrove"]


class ExportShardsConfig(StageConfig):
    """Which formats are written."""

    model_config = ConfigDict(title="Export of shards")
    formats: tuple[Format, ...] = Field(
        (), max_length=2, description="Megatron's .bin and .idx, datatrove's .ds; with none, nothing is exported."
    )


def export_shards(config: ExportShardsConfig, *, train: Path, heldout: Path, out: Path) -> Metrics:
    """Write `megatron/SPLIT.bin` and `.idx`, and `datatrove/SPLIT/00000_tokenized.ds` with its index and metadata.

    The ids are those of the shards, document after document, a `<|bos|>` before each; there is no mark at the end.
    `summary/summary.json` says what each split holds.
    """
    from pipelines.tokens.exporting import export

    return export(config, {"train": train, "heldout": heldout}, out)


EXPORT_SHARDS = Stage("export_shards", version=1, run=export_shards, libraries=("humanize", "numpy", "pyarrow"))
