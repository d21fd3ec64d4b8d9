"""A machine that was measured, once a session."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.planning import scaling_law
from pipelines.planning.calibrate import calibrate
from pipelines.planning.calibration import Calibration
from pipelines.pretraining.pretrain import PretrainConfig

VOCABULARY = 300
TINY = PretrainConfig(
    size="tiny",
    sequence_length=32,
    global_batch=8,
    micro_batch=4,
    max_steps=200,
    warmup_steps=2,
    heldout_every=100,
    heldout_sequences=4,
    checkpoint_every=50,
    trackers=(),
)


@pytest.fixture(autouse=True, scope="session")
def few_resamples() -> Iterator[None]:
    """Fits with a fifth of the ladders drawn: intervals a little rougher, in a fifth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling_law, "RESAMPLES", 40)
        yield


@dataclass(frozen=True)
class Measured:
    """A store and what short steps of `TINY` took here."""

    store: Path
    calibration: Calibration


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """The calibration of `TINY`, by the process that measures."""
    store = tmp_path_factory.mktemp("measured")
    found = calibrate(store, TINY, VOCABULARY)
    assert isinstance(found, Calibration), found
    return Measured(store, found)
