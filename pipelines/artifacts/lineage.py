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


def nearest(artifact: Path) -> list[Manifest]:
    """Return the manifest of the artifact and, of each stage behind it, of the one in the fewest steps.

    A continued model has two of `pretrain` behind it: the nearer is its own. Of two in as many steps the input whose
    name is first in the alphabet decides. Raises StageFailed when an ancestor has left the store.
    """
    found: dict[str, Manifest] = {}
    seen: set[tuple[str, str]] = set()
    level = [(artifact.parent.name, artifact.name)]
    while level:
        after: list[tuple[str, str]] = []
        for stage, key in level:
            if (stage, key) in seen:
                continue
            seen.add((stage, key))
            manifest = read_manifest(artifact.parents[1] / stage / key)
            if manifest is None:
                raise StageFailed(f"lineage: {stage}/{key[:12]} is not in the store any more; run the recipe again")
            found.setdefault(stage, manifest)
            after += [(entry.stage, entry.key) for _, entry in sorted(manifest.inputs.items())]
        level = after
    return list(found.values())
