"""The three ways to walk a product: plan it, build it here, or build it as Prefect tasks (in `tasks/`)."""

import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pipelines.artifacts.build import Built, build
from pipelines.artifacts.errors import DamagedArtifact, StageFailed
from pipelines.artifacts.key import differences, identity_of, key_of
from pipelines.artifacts.manifest import Artifact, Manifest, Output
from pipelines.artifacts.progress import say
from pipelines.artifacts.stage import Stage, StageConfig
from pipelines.artifacts.store import Store
from pipelines.artifacts.work import Progress, read_progress


class Run(Protocol):
    """Brings a stage's artifact about, or plans to."""

    store: Store
    """Where the artifacts are, for a product that goes on from what was built before."""

    def __call__(
        self, stage: Stage, config: StageConfig, *, node: str | None = None, **inputs: Output | None
    ) -> Artifact:
        """Return the artifact of the stage at this node; an input that is None is left out."""
        ...


T = TypeVar("T")
Product = Callable[..., object]
"""A function of a product's config and a `Run`."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run that ends in an action, which is no artifact: never cached and never planned."""

    name: str
    """One word or two, such as Promoted or Refused; a flow run's state is called so."""
    line: str
    """One line for people."""
    markdown: str
    """A page for the run's report."""
    facts: Mapping[str, Any]
    """The same for machines."""


@dataclass(frozen=True)
class Row:
    """One node of a plan."""

    node: str
    stage: str
    state: str
    """hit, partial, miss or waiting"""
    why: str
    key: str | None
    progress: Progress | None
    needs: tuple[str, ...]
    """The nodes whose outputs it reads."""
    definition: Stage
    changes: tuple[str, ...]
    """How its identity differs from the nearest built one of the same stage."""
    config: StageConfig


@dataclass
class Planner:
    """Walks a product without building anything: reads manifests and hashes root inputs only."""

    store: Store
    rows: list[Row] = field(default_factory=list)
    artifacts: dict[str, Artifact] = field(default_factory=dict)

    def __call__(
        self, stage: Stage, config: StageConfig, *, node: str | None = None, **inputs: Output | None
    ) -> Artifact:
        """Record what would happen at this node and return its artifact, planned or built."""
        node = node or stage.name
        given = {name: output for name, output in inputs.items() if output is not None}
        needs = tuple(dict.fromkeys(output.node for output in given.values()))
        identity = identity_of(stage, config, given, self.store.pins)
        waiting = [output.node for output in given.values() if output.digest is None]
        if waiting:
            return self._waits(node, stage, config, waiting, needs, identity)
        key = key_of(identity)
        manifest = self.store.find(stage.name, key)
        state, why = "hit", ""
        if manifest is None and self.store.mirror:
            manifest, state, why = self.store.mirror.known(stage.name, key), "miss", "in the mirror"
        if manifest is not None:
            self.rows.append(Row(node, stage.name, state, why, key, None, needs, stage, (), config))
            artifact = Artifact(stage.name, node, key, self.store.folder(stage.name, key), manifest.outputs)
        else:
            changes = self.changes(stage, identity)
            progress = read_progress(self.store.work(stage.name, key)) if stage.resumable else None
            state = "partial" if progress else "miss"
            why = "damaged" if self.store.folder(stage.name, key).exists() else _why(changes)
            told = tuple(changes or ())
            self.rows.append(Row(node, stage.name, state, why, key, progress, needs, stage, told, config))
            artifact = Artifact(stage.name, node, key, self.store.work(stage.name, key), planned=True)
        self.artifacts[node] = artifact
        return artifact

    def _waits(
        self,
        node: str,
        stage: Stage,
        config: StageConfig,
        waiting: list[str],
        needs: tuple[str, ...],
        identity: dict[str, object],
    ) -> Artifact:
        """Record a node whose inputs are not built: its key is not known, but its own fields can be compared."""
        pending = {name for name, digest in _part(identity, "inputs").items() if digest is None}
        changes = [
            line
            for line in self.changes(stage, identity) or ()
            if line.split(":")[0].removeprefix("inputs.") not in pending and not line.startswith("lineage.")
        ]
        why = f"waiting for {waiting[0]}" + (f"; {changes[0]}" if changes else "")
        self.rows.append(Row(node, stage.name, "waiting", why, None, None, needs, stage, tuple(changes), config))
        artifact = Artifact(stage.name, node, "", self.store.root, planned=True)
        self.artifacts[node] = artifact
        return artifact

    def changes(self, stage: Stage, identity: dict[str, object]) -> list[str] | None:
        """Return how this identity differs from the nearest built one of the stage; None where none was built."""
        built = [differences(manifest.identity, identity) for manifest in self.store.manifests(stage.name)]
        return min(built, key=len, default=None)


def _part(identity: dict[str, object], name: str) -> Mapping[str, object]:
    part = identity[name]
    return part if isinstance(part, Mapping) else {}


def _why(changes: list[str] | None) -> str:
    if changes is None:
        return "never built"
    more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
    return (changes[0] if changes else "gone from the store") + more


@dataclass(frozen=True)
class NodeResult:
    """What happened at one node of a run."""

    node: str
    manifest: Manifest
    path: Path
    hit: bool
    seconds: float


@dataclass
class LocalRun:
    """Builds each node in this process. With `only`, nodes outside it are planned and not built."""

    store: Store
    only: Collection[str] | None = None
    results: list[NodeResult] = field(default_factory=list)
    on_start: Callable[[str], None] = lambda node: None
    on_end: Callable[[NodeResult], None] = lambda result: None

    def __call__(
        self, stage: Stage, config: StageConfig, *, node: str | None = None, **inputs: Output | None
    ) -> Artifact:
        """Return the built artifact of this node."""
        node = node or stage.name
        if self.only is not None and node not in self.only:
            return Artifact(stage.name, node, "", self.store.root, planned=True)
        given = {name: output for name, output in inputs.items() if output is not None}
        self.on_start(node)
        built = build(self.store, stage, config, given, node=node)
        self.record(node, built)
        return built.artifact

    def record(self, node: str, built: Built) -> None:
        """Keep what happened, for the table at the end."""
        result = NodeResult(node, built.manifest, built.artifact.path, built.hit, built.seconds)
        self.results.append(result)
        self.on_end(result)


def tell(result: NodeResult) -> None:
    """Show in one line what happened at a node."""
    say(f"{result.node}: {'hit' if result.hit else f'built in {result.seconds:.1f} s'}")


def until_sound(walk: Callable[[], T], run: LocalRun, attempts: int = 20) -> T:
    """Walk a product again as long as a damaged input was found and quarantined: its stage then builds it anew.

    Twenty is more than a product has nodes, so that a disk which damages everything is told and not fought for ever.
    """
    for attempt in range(attempts):
        run.results.clear()
        try:
            return walk()
        except DamagedArtifact as error:
            if attempt == attempts - 1:
                raise StageFailed(f"{error} (for the {attempts}th time: check the disk)") from error
            say(str(error))
    raise AssertionError("the last attempt returns or raises")


def record_run(store: Store, product: str, results: list[NodeResult]) -> Path:
    """Remember which artifacts a finished run used, for `report` and `gc`; return the record's path."""
    folder = store.root / ".runs"
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "product": product,
        "finished_at": datetime.now(UTC).isoformat(timespec="microseconds"),
        "nodes": [
            {
                "node": result.node,
                "stage": result.manifest.stage,
                "key": result.manifest.key,
                "hit": result.hit,
                "seconds": round(result.seconds, 3),
            }
            for result in results
        ],
    }
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    fresh, path = folder / f".{stamp}.{os.getpid()}", folder / f"{stamp}-{product}.json"
    fresh.write_text(json.dumps(record, indent=1))
    return fresh.replace(path)


def needed_for(node: str, rows: list[Row]) -> set[str]:
    """Return the node and all that it needs, by the plan's rows."""
    by_name = {row.node: row for row in rows}
    needed, pending = set(), [node]
    while pending:
        name = pending.pop()
        if name in by_name and name not in needed:  # what a champion brings is no node of the plan
            needed.add(name)
            pending += by_name[name].needs
    return needed
