"""Having a config measured in a process of its own, once a machine and shape."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

from pipelines.artifacts.errors import StageFailed
from pipelines.planning.calibration import Calibration, place_of, read_calibration, shape_of
from pipelines.planning.machine import this_machine
from pipelines.planning.memory import check_fits, estimate
from pipelines.pretraining.pretrain import PretrainConfig

CODE = Path(__file__).resolve().parents[2]


def kept(store: Path, config: PretrainConfig, vocab_size: int) -> Calibration | None:
    """Return what was measured on this machine for runs of this shape; None where nothing was."""
    return read_calibration(place_of(store, this_machine().fingerprint, shape_of(config, vocab_size)))


def calibrate(
    store: Path, config: PretrainConfig, vocab_size: int, clock: Literal["wall", "cpu"] = "wall"
) -> Calibration | str:
    """Measure runs of this shape here and keep the result in the store, or return why that cannot be done.

    `clock` counts the seconds that pass or those that the run computes, which what else runs here changes little.
    Raises UserError where the memory of this machine does not suffice.
    """
    machine = this_machine()
    if config.device == "cuda" and not (machine.gpus or machine.gpu_memory_bytes):
        return "its device 'cuda' is not on this machine"
    if config.parallel.is_spread:
        return f"it is spread over {config.parallel.processes} processes"
    job = {"config": config.model_dump(mode="json"), "vocab_size": vocab_size, "clock": clock}
    answer = _answer({**job, "memory_bytes": machine.memory_bytes})
    if "too_long" in answer:
        return f"measuring it would take {answer['too_long']}"
    if "no_memory" in answer:
        memory = float(answer["no_memory"])
        check_fits(config, vocab_size, memory, max(estimate(config, vocab_size), 1.01 * memory))
    found = Calibration.model_validate(answer["calibration"])
    place = place_of(store, machine.fingerprint, shape_of(config, vocab_size))
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_suffix(f".{os.getpid()}")
    fresh.write_text(found.model_dump_json(indent=1) + "\n")
    fresh.replace(place)
    return found


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    """Return what the measuring process says of a job; raise StageFailed with its last line where it says nothing."""
    with tempfile.TemporaryDirectory(prefix="gristmill-") as made:
        path = Path(made) / "job.json"
        path.write_text(json.dumps(job))
        known = os.environ.get("PYTHONPATH")
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.planning.probe", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{CODE}{os.pathsep}{known}" if known else str(CODE)},
            check=False,
        )
        answer = path.with_suffix(".answer")
        if not answer.is_file():
            lines = done.stderr.strip().splitlines()
            raise StageFailed(
                f"calibration: its process ended with status {done.returncode} ({lines[-1] if lines else ''})"
            )
        found: dict[str, Any] = json.loads(answer.read_text())
        return found
