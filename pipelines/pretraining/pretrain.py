"""The stage `pretrain`: a base model from token shards."""

from pathlib import Path

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import Metrics, Stage
from pipelines.models.sizes import SizeName
from pipelines.pretraining.settings import LoopConfig
from pipelines.tokens.mixture import MixtureConfig


class PretrainConfig(LoopConfig):
    """Which model is trained, and how."""

    model_config = ConfigDict(title="Pre-training")

    size: SizeName = Field("demo", description="Row of the table of model sizes.")
    mixture: MixtureConfig = Field(MixtureConfig(), description="Other corpora to train on, and how much of each.")
    document_mask: bool = Field(
        False, description="Restart attention and positions at each document of a sequence: none sees another."
    )


def pretrain(
    config: PretrainConfig, *, train: Path, heldout: Path, tokenizer: Path, init_from: Path | None = None, out: Path
) -> Metrics:
    """Write the model trained on `train` and the other corpora of its mixture, its state and its curve.

    `init_from` is the state of an earlier run: its weights, optimizer and generators are taken over, the schedule
    starts afresh, and the samples go on where it stopped when data and seed are the same.
    """
    from pipelines.pretraining.causal_lm import train_base

    return train_base(config, train, heldout, tokenizer, init_from, out)


PRETRAIN = Stage("pretrain", version=2, run=pretrain, libraries=("torch", "transformers"), resumable=True)
