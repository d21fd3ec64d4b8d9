"""What the store knows of an artifact, and the reference that stages pass to each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

MANIFEST = "manifest.json"
FORMAT = 1


class FileEntry(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    sha256: str
    bytes: int


class InputEntry(BaseModel):
    """One output of another artifact that this one was built from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: str
    key: str
    output: str
    digest: str


class Manifest(BaseModel):
    """Everything about one published artifact; written last, so that its presence means the artifact is whole.

    `identity` is what the key is the hash of. What follows `metrics` describes the build, not the content: nothing
    that is published may depend on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = FORMAT
    stage: str
    version: int
    key: str
    config: dict[str, Any]
    identity: dict[str, Any]
    roots: dict[str, str]
    inputs: dict[str, InputEntry]
    outputs: dict[str, str]
    files: dict[str, FileEntry]
    libraries: dict[str, str]
    metrics: dict[str, float]
    code: str
    commit: str | None
    seconds: float
    peak_memory_bytes: int
    built_at: str
    host: str

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(entry.bytes for entry in self.files.values())


@dataclass(frozen=True)
class Output:
    """A named output of an artifact; `digest` is None where the artifact is only planned."""

    stage: str
    key: str
    name: str
    digest: str | None
    path: Path
    node: str


@dataclass(frozen=True)
class Artifact:
    """A reference to a built or planned artifact: the only thing that stages exchange."""

    stage: str
    node: str
    key: str
    path: Path
    outputs: Mapping[str, str] = field(default_factory=dict)
    planned: bool = False

    def __getitem__(self, name: str) -> Output:
        """Return the output of that name; raise KeyError where the built artifact has none."""
        if self.planned:
            return Output(self.stage, self.key, name, None, self.path / name, self.node)
        if name not in self.outputs:
            raise KeyError(f"{self.node} has no output {name!r}; it has {', '.join(sorted(self.outputs))}")
        return Output(self.stage, self.key, name, self.outputs[name], self.path / name, self.node)
