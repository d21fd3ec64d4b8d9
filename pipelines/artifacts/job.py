"""What crosses the pipe between a run and its stage host: a stage to build one way, how it went the other, as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pipelines.artifacts.errors import (
    DamagedArtifact,
    EmptyOutput,
    StageFailed,
    TemporaryFault,
    UserError,
    error_with,
)
from pipelines.artifacts.manifest import Output
from pipelines.artifacts.mirror_uri import store_at
from pipelines.artifacts.stage import Stage, StageConfig
from pipelines.artifacts.store import Store

KINDS: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (UserError, StageFailed, EmptyOutput, TemporaryFault, DamagedArtifact)
}


@dataclass(frozen=True)
class Job:
    """A stage to be built: everything that `build` asks for."""

    store: Store
    stage: Stage
    config: StageConfig
    inputs: Mapping[str, Output]
    node: str


def job_line(job: Job) -> bytes:
    """Return the job as a line of JSON. The stage goes by its module and name, since both sides have the same code."""
    inputs = {name: {**asdict(output), "path": str(output.path)} for name, output in job.inputs.items()}
    return _line(
        {
            "store": str(job.store.root.resolve()),
            "mirror": job.store.mirror.uri if job.store.mirror else None,
            "module": job.stage.run.__module__,
            "stage": job.stage.name,
            "config": job.config.model_dump(mode="json"),
            "inputs": inputs,
            "node": job.node,
        }
    )


def read_job(line: bytes) -> Job:
    """Return the job of a line."""
    told = json.loads(line)
    stage = stage_named(told["module"], told["stage"])
    inputs = {name: Output(**{**fields, "path": Path(fields["path"])}) for name, fields in told["inputs"].items()}
    config = stage.config.model_validate_json(json.dumps(told["config"]))
    return Job(store_at(told["store"], told["mirror"]), stage, config, inputs, told["node"])


def stage_named(module: str, name: str) -> Stage:
    """Return the stage of that name among the constants of a module."""
    for value in vars(import_module(module)).values():
        if isinstance(value, Stage) and value.name == name:
            return value
    raise UserError(f"{name}: {module} has no constant that is this stage; define it beside its function")


def error_fields(error: Exception) -> list[str]:
    """Return an error's kind, the nearest that the other side knows, and its line."""
    kind = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in KINDS)
    return [kind, str(error)]


def error_of(kind: str, message: str) -> Exception:
    """Return the error of that kind with this very line."""
    return error_with(KINDS[kind], message)


def message_line(kind: str, *fields: Any) -> bytes:
    """Return a message from the host as a line of JSON: its kind and what belongs to it."""
    return _line([kind, *fields])


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"
