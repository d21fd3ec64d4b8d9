"""The graph of artifacts behind one, read from the manifests."""

from pathlib import Path

from pipelines.artifacts.errors import StageFailed
from pipelines.artifacts.manifest import Manifest
from pipelines.artifacts.store import read_manifest


def ancestors(artifact: Path) -> list[Manifest]:
    """Return the manifest of the artifact at `<store>/<stage>/<key>` and of all it was built from, inputs first.

    The order depends on the graph alone. Raises StageFailed when an ancestor has left the store.
    """
    order: dict[tuple[str, str], Manifest] = {}

    def visit(stage: str, key: str) -> None:
        if (stage, key) in order:
            return
        manifest = read_manifest(artifact.parents[1] / stage / key)
        if manifest is None:
            raise StageFailed(f"lineage: {stage}/{key[:12]} is not in the store any more; run the recipe again")
        for _, entry in sorted(manifest.inputs.items()):
            visit(entry.stage, entry.key)
        order[stage, key] = manifest

    visit(artifact.parent.name, artifact.name)
    return list(order.values())
