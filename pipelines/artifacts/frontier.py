"""What of a product can be built now: the nodes whose inputs all are, which may be built side by side."""

from dataclasses import dataclass, field

from pipelines.artifacts.job import Job
from pipelines.artifacts.manifest import Artifact, Output
from pipelines.artifacts.run import Planner, Row
from pipelines.artifacts.stage import Stage, StageConfig


@dataclass
class Frontier(Planner):
    """A plan that also keeps what each node's stage is to be called with."""

    jobs: dict[str, Job] = field(default_factory=dict)

    def __call__(
        self, stage: Stage, config: StageConfig, *, node: str | None = None, **inputs: Output | None
    ) -> Artifact:
        """Record what would happen at this node, and how; return its artifact, planned or built."""
        node = node or stage.name
        given = {name: output for name, output in inputs.items() if output is not None}
        self.jobs[node] = Job(self.store, stage, config, given, node)
        return super().__call__(stage, config, node=node, **given)

    def ready(self) -> list[Row]:
        """Return the nodes that are built and those that can be: what they need is in the store, not in a mirror."""
        waited_for = {row.node for row in self.rows if row.state != "hit"}  # a champion's outputs have no row
        return [row for row in self.rows if row.key and waited_for.isdisjoint(row.needs)]
