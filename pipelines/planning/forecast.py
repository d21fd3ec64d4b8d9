"""What the training stages of a plan will take."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pipelines.artifacts.run import Planner, Row
from pipelines.artifacts.stage import StageConfig
from pipelines.artifacts.store import Store
from pipelines.config import Tokenized
from pipelines.planning.calibrate import calibrate, kept
from pipelines.planning.calibration import Calibration
from pipelines.planning.counts import Counts, counts_of
from pipelines.planning.machine import Machine, this_machine
from pipelines.planning.memory import check_fits
from pipelines.planning.prediction import Prediction, Prices, predict
from pipelines.planning.scoring import keep
from pipelines.pretraining.pretrain import PretrainConfig

Measuring = Literal["missing", "all"]


@dataclass(frozen=True)
class Forecast:
    """What a node of a plan has to do, and what it will take."""

    node: str
    counts: Counts
    prediction: Prediction | None
    why: str
    """Why nothing is predicted; empty where something is."""


def trained(planner: Planner, part: StageConfig, only: Iterable[str] | None = None) -> list[tuple[Row, int]]:
    """Return the nodes that pre-train a model that is not built yet, each with the size of its vocabulary.

    A retraining takes its vocabulary from the model that is served, which no config tells.
    """
    vocab_size = _vocabulary(planner, part)
    return [
        (row, vocab_size)
        for row in planner.rows
        if isinstance(row.config, PretrainConfig) and row.state != "hit" and vocab_size
        and (only is None or row.node in only)
    ]  # fmt: skip


def refuse_what_cannot_fit(planner: Planner, part: StageConfig, only: Iterable[str] | None = None) -> None:
    """Raise UserError where a model that is to be trained cannot fit this machine."""
    for row, vocab_size in trained(planner, part, only):
        assert isinstance(row.config, PretrainConfig)  # noqa: S101 - as `trained` chose it
        _check_fits(row.config, vocab_size, this_machine())


def forecasts(
    planner: Planner, part: StageConfig, store: Store, prices: Prices, measuring: Measuring | None
) -> list[Forecast]:
    """Return what the nodes that pre-train will take, and keep it so that their runs can score it.

    What was measured for runs of the same shape on this machine is used; `measuring` has what is missing measured, or
    all anew. Raises UserError where a model cannot fit.
    """
    found = []
    for row, vocab_size in trained(planner, part):
        config = row.config
        assert isinstance(config, PretrainConfig)  # noqa: S101 - as `trained` chose it
        machine = this_machine()
        _check_fits(config, vocab_size, machine)
        measured: Calibration | str | None = None if measuring == "all" else kept(store.root, config, vocab_size)
        if measured is None:
            measured = (
                calibrate(store.root, config, vocab_size)
                if measuring
                else "nothing is measured here, --calibrate missing does"
            )
        prediction = None
        if isinstance(measured, Calibration):
            prediction = predict(config, measured, prices)
            _check_fits(config, vocab_size, machine, prediction.memory_bytes.value)
            keep(store.root, row.stage, config.model_dump(mode="json"), prediction)
        why = measured if isinstance(measured, str) else ""
        found.append(Forecast(row.node, counts_of(config, vocab_size), prediction, why))
    return found


def _check_fits(config: PretrainConfig, vocab_size: int, machine: Machine, needed: float | None = None) -> None:
    """Raise UserError where the run needs more memory than there is; a GPU that is not here is not known."""
    memory = machine.memory_bytes if config.device == "cpu" else machine.gpu_memory_bytes
    if config.device == "cpu" and config.parallel.processes > 1:
        memory //= config.parallel.processes // config.parallel.nodes
    if memory:
        check_fits(config, vocab_size, memory, needed)


def _vocabulary(planner: Planner, part: StageConfig) -> int:
    """Return how many tokens the vocabulary has, or will have; 0 where that is not known."""
    artifact = planner.artifacts.get("tokenizer")
    if artifact and not artifact.planned and (manifest := planner.store.find(artifact.stage, artifact.key)):
        return int(manifest.metrics["vocab_size"])
    return part.tokenizer.vocab_size if isinstance(part, Tokenized) else 0
