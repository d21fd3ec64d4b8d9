"""Predictions kept beside the artifacts, and how far each was off once its run is done.

A prediction is no input of anything: it lies in the store under the config that it is of, so that a report finds it by
the config in a manifest, and no key depends on it.
"""

import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.artifacts.canonical import digest_of
from pipelines.artifacts.manifest import Manifest
from pipelines.planning.calibration import now
from pipelines.planning.prediction import Prediction

FOLDER = ".predictions"


class Kept(BaseModel):
    """A prediction as it is kept: value and interval of time and memory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    predicted_at: str
    seconds: tuple[float, float, float]
    memory_bytes: tuple[float, float, float]


class Score(BaseModel):
    """A prediction beside what was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    figure: str
    predicted: float
    low: float
    high: float
    measured: float

    @property
    def error(self) -> float:
        """How far off it was, as a share of what was measured."""
        return self.predicted / self.measured - 1

    @property
    def holds(self) -> bool:
        """Whether what was measured lies in the interval."""
        return self.low <= self.measured <= self.high


def keep(store: Path, stage: str, config: Mapping[str, Any], prediction: Prediction) -> None:
    """Keep a prediction of a stage of this config, in the place of an earlier one."""
    time, memory = prediction.seconds, prediction.memory_bytes
    kept = Kept(
        host=platform.node(),
        predicted_at=now(),
        seconds=(time.value, time.low, time.high),
        memory_bytes=(memory.value, memory.low, memory.high),
    )
    place = _place(store, stage, config)
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_suffix(".fresh")
    fresh.write_text(kept.model_dump_json(indent=1) + "\n")
    fresh.replace(place)


def scores(store: Path, manifests: Iterable[Manifest]) -> list[Score]:
    """Return the predictions of these artifacts that were made on their host before they were built.

    The time of a run that was stopped and went on is in no manifest as a whole, so it is not scored.
    """
    found: list[Score] = []
    for manifest in manifests:
        try:
            kept = Kept.model_validate_json(_place(store, manifest.stage, manifest.config).read_text())
        except (OSError, ValidationError):
            continue
        if kept.host != manifest.host or kept.predicted_at > manifest.built_at:
            continue
        folder = store / manifest.stage / manifest.key
        figures = {"memory_bytes": (kept.memory_bytes, _memory(folder, manifest))}
        if not _went_on(folder, manifest):
            figures = {"seconds": (kept.seconds, manifest.seconds), **figures}
        for figure, ((predicted, low, high), measured) in figures.items():
            found.append(
                Score(stage=manifest.stage, figure=figure, predicted=predicted, low=low, high=high, measured=measured)
            )
    return found


def _place(store: Path, stage: str, config: Mapping[str, Any]) -> Path:
    return store / FOLDER / f"{stage}-{digest_of(dict(config))[:24]}.json"


def _memory(folder: Path, manifest: Manifest) -> float:
    """Return the most memory that the stage took: the GPU's where it ran on one, which the manifest does not hold."""
    machine = folder / "log" / "machine.json"
    if manifest.config.get("device") == "cuda" and machine.is_file():
        return float(json.loads(machine.read_text())["peak_memory_bytes"])
    return float(manifest.peak_memory_bytes)


def _went_on(folder: Path, manifest: Manifest) -> bool:
    """Return whether the log tells of more time than the last attempt took."""
    log = folder / "log" / "metrics.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    return sum(float(json.loads(line)["seconds"]) for line in lines) > manifest.seconds
