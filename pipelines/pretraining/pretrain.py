"""The stage `pretrain`: a base model from token shards."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from pydantic import ConfigDict, Field, model_validator

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import FileRoot, Root, source_files
from pipelines.artifacts.stage import Metrics, Stage
from pipelines.models.architectures import ARCHITECTURES, ArchitectureName
from pipelines.models.options import PLAIN, ModelOptions
from pipelines.models.sizes import SIZES, SizeName
from pipelines.pretraining.mesh import ParallelConfig, check_fit
from pipelines.pretraining.objectives import ObjectiveName
from pipelines.pretraining.settings import LoopConfig
from pipelines.tokens.mixture import PARTS, MixtureConfig, weighed

STATE_SUFFIXES = (".safetensors", ".json", ".jsonl")


class PretrainConfig(LoopConfig):
    """Which model is trained, and how.

    Any mesh of processes sees the same samples in the same order and adds up the same gradients to rounding.
    """

    model_config = ConfigDict(title="Pre-training")
    runtime: ClassVar[frozenset[str]] = LoopConfig.runtime | {"parallel"}
    pinned: ClassVar[frozenset[str]] = frozenset({"init_from"})

    architecture: ArchitectureName = Field("llama", description="Row of the table of architectures.")
    size: SizeName = Field("demo", description="Row of the table of model sizes.")
    objective: ObjectiveName | None = Field(
        None, description="Row of the table of objectives; none takes what the architecture is made for."
    )
    mask_share: float = Field(
        0.15, gt=0, lt=1, description="Share of the tokens that are left out, where the objective leaves some out."
    )
    span_length: float = Field(
        3.0, ge=1, le=1 << 17, description="Tokens of a span that is left out, on average, where spans are."
    )
    options: ModelOptions = Field(PLAIN, description="Architecture and first weights, where they are not Llama's.")
    load_balance: float = Field(
        0.01, ge=0, le=10, description="Weight of the load-balance loss, where blocks are mixtures of experts."
    )
    mixture: MixtureConfig = Field(MixtureConfig(), description="Other corpora to train on, and how much of each.")
    document_mask: bool = Field(
        False, description="Restart attention and positions at each document of a sequence: none sees another."
    )
    init_from: Path | None = Field(
        None, description="A finished `pretrain` artifact, or its `state` output, that training goes on from."
    )
    parallel: ParallelConfig = Field(ParallelConfig(), description="Processes that train one model together.")

    @model_validator(mode="after")
    def _the_mesh_fits(self) -> Self:
        check_fit(self.parallel, ARCHITECTURES[self.architecture], SIZES[self.size], self)
        return self

    def state_folder(self) -> Path | None:
        """Return the folder of the state that `init_from` names; raise UserError where there is none."""
        if self.init_from is None:
            return None
        inner = self.init_from / "state"
        folder = inner if inner.is_dir() else self.init_from
        if not (folder / "state.json").is_file():
            raise UserError(
                f"pretrain.init_from: {str(self.init_from)!r} holds no state of a finished run; name a `pretrain` "
                "artifact, as `gristmill artifacts list` shows them"
            )
        return folder

    def devices(self) -> tuple[str, ...]:
        """Return one device a process of this machine."""
        if self.device == "cpu" or self.parallel.processes == 1:
            return super().devices()
        return tuple(f"{self.device}:{rank}" for rank in range(self.parallel.processes // self.parallel.nodes))

    def continued(self, state: Path | None, replay: Sequence[Path]) -> Self:
        """Return the config with a state to go on from and older corpora to replay; what is not given stays."""
        changes: dict[str, object] = {} if state is None else {"init_from": state}
        if replay:
            if self.mixture.corpora:
                raise UserError("pretrain.mixture.corpora: old corpora are replayed by themselves; leave it empty")
            changes["mixture"] = self.mixture.model_copy(
                update={"corpora": weighed(replay, PARTS - round(self.mixture.weight))}
            )
        return self.model_copy(update=changes)

    def roots(self) -> Mapping[str, Root]:
        """Return the files of the state that training goes on from, and of the mixture's other corpora."""
        folder, found = self.state_folder(), dict(super().roots())
        if folder is not None:
            field = "pretrain.init_from"
            found["init_from"] = FileRoot(source_files(folder, STATE_SUFFIXES, field), field)
        return found


def pretrain(
    config: PretrainConfig,
    *,
    train: Path,
    heldout: Path,
    tokenizer: Path,
    state: Path | None = None,
    out: Path,
    **replay: Path,
) -> Metrics:
    """Write the model trained on `train` and the other corpora of its mixture, its state and its curve.

    Where `init_from` names the state of an earlier run, its weights, optimizer and generators are taken over, the
    schedule starts afresh, and the samples go on where it stopped when data and seed are the same. A `state` that comes
    from the store as an input stands for `init_from`, and the inputs `replay_0` and so on for `mixture.corpora`: of
    10,000 samples `mixture.weight` are of `train` then, and the others of the replayed shards, each by its tokens.
    """
    config = config.continued(state, [replay[f"replay_{number}"] for number in range(len(replay))])
    if config.parallel.is_spread:
        from pipelines.pretraining.launch import launch

        return launch(config, {"train": train, "heldout": heldout, "tokenizer": tokenizer}, out)
    from pipelines.pretraining.causal_lm import train_base

    return train_base(config, train, heldout, tokenizer, out)


PRETRAIN = Stage("pretrain", version=2, run=pretrain, libraries=("torch", "transformers"), resumable=True)
