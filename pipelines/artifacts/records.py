"""What the registry writes: a model, the gates' decision on it, why a retraining stopped, and the record of each."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipelines.artifacts.store import Store

FORMAT = 1
BUNDLE = "bundle"
Action = Literal["promoted", "refused", "rolled-back", "stopped"]
NOTHING_NEW = "nothing new"
MOVES = ("promoted", "rolled-back")
"""What moves the pointer; the other records are of runs that left it where it was."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Promoted(_Frozen):
    """A packaged model, by key and content, with the artifacts behind it."""

    name: str
    """What clients of the endpoint ask for."""
    key: str
    """Key of the stage `package`."""
    digest: str
    """Content digest of its output `bundle`."""
    nodes: dict[str, str]
    """Stage → key of the nearest artifact of that stage behind the bundle: pretrain, tokenizer, dedup, shard, …"""

    def bundle(self, store: Store) -> Path:
        """Return the folder that is served."""
        return store.folder("package", self.key) / BUNDLE


class Gate(_Frozen):
    """What one gate found: its figure, the bound that it is held to, and whether it lets the model pass."""

    name: str
    passed: bool
    figure: float | None = None
    bound: float | None = None
    low: float | None = None
    high: float | None = None
    """The interval of the figure, where it has one."""
    says: str
    """One line for people."""


class Decision(_Frozen):
    """Whether a challenger may take the champion's place, gate by gate, and the evidence it was decided on."""

    challenger: Promoted
    champion: Promoted | None
    gates: tuple[Gate, ...]
    evidence: dict[str, Any] = Field(default_factory=dict)

    @property
    def failed(self) -> tuple[Gate, ...]:
        """The gates that the challenger does not pass."""
        return tuple(gate for gate in self.gates if not gate.passed)

    @property
    def passed(self) -> bool:
        """Whether the challenger is to be served."""
        return not self.failed


class Stop(_Frozen):
    """Why a retraining ended before there was a challenger."""

    gate: str
    """What stopped it, as `nothing new` or `drift.crawl.toxicity`."""
    says: str
    """One line for people."""
    evidence: dict[str, Any] = Field(default_factory=dict)


class Record(_Frozen):
    """One entry of the history; `log` says who and when and decides nothing."""

    format: int = FORMAT
    number: int = Field(ge=1)
    action: Action
    model: Promoted
    """What is served from here on; in a refusal, what was refused; of a stop, what is served as before."""
    previous: int | None = None
    """The record that a rollback from here brings back; None where there is nothing before."""
    restores: int | None = None
    """In a rollback: the record whose model serves again."""
    decision: Decision | None = None
    stop: Stop | None = None
    log: dict[str, str] = Field(default_factory=dict)
    digest: str

    @property
    def file(self) -> str:
        """Its name in the history."""
        return f"{self.number:06d}-{self.action}.json"
