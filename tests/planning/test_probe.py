"""Measuring: short steps of a run's own shape, kept by machine, and scored when the run is done."""

from pathlib import Path

import pytest

from pipelines.models.sizes import SIZES
from pipelines.planning import probe
from pipelines.planning.calibrate import calibrate, kept
from pipelines.planning.calibration import FOLDER
from pipelines.planning.machine import this_machine
from pipelines.planning.prediction import Prices, predict
from pipelines.pretraining.mesh import ParallelConfig
from tests.planning.conftest import TINY, VOCABULARY, Measured


def test_what_was_measured_is_kept_for_the_machine_and_the_shape(measured: Measured) -> None:
    found = measured.calibration
    assert found.depths == (SIZES["tiny"].n_layer,)
    assert found.micro_batch_seconds > 0 and found.fixed_seconds > 0.5, "loading torch alone takes longer"
    assert 200 << 20 < found.memory_bytes < 4 << 30
    assert kept(measured.store, TINY, VOCABULARY) == found
    assert kept(measured.store, TINY.model_copy(update={"max_steps": 900}), VOCABULARY) == found
    assert kept(measured.store, TINY.model_copy(update={"size": "smoke"}), VOCABULARY) is None
    (file,) = (measured.store / FOLDER).rglob("*.json")
    assert file.parent.name == this_machine().fingerprint
    assert predict(TINY, found, Prices()).seconds.value > 200 * found.micro_batch_seconds


def test_a_calibration_that_cannot_be_read_is_measured_again(measured: Measured, tmp_path: Path) -> None:
    (file,) = (measured.store / FOLDER).rglob("*.json")
    other = tmp_path / file.relative_to(measured.store)
    other.parent.mkdir(parents=True)
    other.write_text(file.read_text().replace('"spread"', '"sprawl"'))
    assert kept(tmp_path, TINY, VOCABULARY) is None


def test_a_model_that_takes_too_long_is_reckoned_from_two_of_fewer_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "LONGEST", 0.0)
    deeper = TINY.model_copy(update={"size": "smoke", "global_batch": 2, "micro_batch": 1, "optimizer": "sophia"})
    found = probe.measure(deeper, VOCABULARY)
    assert found.depths == (1, 2) and found.micro_batch_seconds >= 0
    assert SIZES["smoke"].n_layer == 4, "the table is as it was"
    monkeypatch.setattr(probe, "UNMEASURABLE", 0.0)
    with pytest.raises(probe.TooLong):
        probe.measure(deeper, VOCABULARY)


def test_what_cannot_be_measured_here_is_said(tmp_path: Path) -> None:
    spread = TINY.model_copy(update={"parallel": ParallelConfig(processes=2)})
    assert calibrate(tmp_path, spread, VOCABULARY) == "it is spread over 2 processes"
    if not this_machine().gpus:
        there = calibrate(tmp_path, TINY.model_copy(update={"device": "cuda"}), VOCABULARY)
        assert there == "its device 'cuda' is not on this machine"
    assert not (tmp_path / FOLDER).exists()
