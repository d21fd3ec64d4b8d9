"""Power by the processor's own counters, in the files that the kernel shows."""

import time
from pathlib import Path

import pytest

from pipelines.planning.energy import EnergyCounter, modelled_watts


def package(powercap: Path, name: str, microjoules: int) -> Path:
    folder = powercap / name
    folder.mkdir(parents=True)
    (folder / "max_energy_range_uj").write_text("1000000000\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


def test_packages_are_added_up_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    first, second = package(tmp_path, "intel-rapl:0", 5_000_000), package(tmp_path, "intel-rapl:1", 999_000_000)
    package(tmp_path, "intel-rapl:0:0", 3)
    counter = EnergyCounter("cpu", tmp_path)
    assert counter.source == "rapl"
    start = time.perf_counter()
    time.sleep(0.05)
    first.write_text("7000000\n")
    second.write_text("1000000\n")  # it went over its highest value
    watts = counter.watts()
    assert watts is not None
    assert watts * (time.perf_counter() - start) == pytest.approx(4.0, rel=0.2)
    assert counter.watts() == pytest.approx(0.0)


def test_without_counters_power_is_modelled(tmp_path: Path) -> None:
    counter = EnergyCounter("cpu", tmp_path)
    assert (counter.source, counter.watts()) == ("modelled", None)
    assert modelled_watts(4, 2 << 30) == pytest.approx(48.745)


def test_a_counter_that_may_not_be_read_is_none(tmp_path: Path) -> None:
    package(tmp_path, "intel-rapl:0", 1).unlink()
    assert EnergyCounter("cpu", tmp_path).source == "modelled"
