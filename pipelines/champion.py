"""The packaged model that a retraining goes on from, and what of its lineage it takes over."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.manifest import Artifact, InputEntry, Manifest, Output
from pipelines.artifacts.store import Store

REPLAY = "replay_"
ITEMS = ("heldout", "train", "questions")


@dataclass(frozen=True)
class OldCorpus:
    """A corpus that the model has seen: as it was read and scored, as it was cleaned, and its shards."""

    scored: Artifact
    clean: Artifact
    shards: Artifact


@dataclass(frozen=True)
class Champion:
    """A packaged model and the artifacts behind it."""

    bundle: Artifact
    model: Output
    """The very model that was packaged."""
    scores: Output
    base: Artifact
    """The pre-trained model and its state."""
    tokenizer: Artifact
    examples: Artifact
    deduplicated: Artifact
    """The deduplication of its newest corpus, whose index knows all documents of all its corpora."""
    corpora: tuple[OldCorpus, ...]
    """Its newest corpus and those that were replayed."""
    items: Mapping[str, Output]
    """What its scores are of: held-out shards, the shards of the baseline, and questions."""


def champion_of(store: Store, key: str) -> Champion:
    """Return the champion whose bundle has this key; raise UserError where something it was made of is gone."""
    behind = _Behind(store)
    bundle = behind.manifest("package", key)
    base = model = behind.input(bundle, "model")
    while base.stage != "pretrain":
        base = behind.input(base, "teacher" if "teacher" in base.inputs else "model")
    replayed = sorted((name for name in base.inputs if name.startswith(REPLAY)), key=lambda name: (len(name), name))
    corpora = [_corpus(behind, behind.input(base, name)) for name in ("train", *replayed)]
    clean = behind.input(behind.input(base, "train"), "documents")
    deduplicated = behind.input(clean, "documents")
    if "index" not in deduplicated.outputs:
        raise UserError(
            f"retrain: dedup/{deduplicated.key[:12]} of the current model kept no index; set dedup.keep_index and run "
            "the recipe again, then promote its bundle"
        )
    scores = behind.input(bundle, "scores")
    return Champion(
        bundle=behind.artifact(bundle),
        model=behind.artifact(model)[bundle.inputs["model"].output],
        scores=behind.artifact(scores)[bundle.inputs["scores"].output],
        base=behind.artifact(base),
        tokenizer=behind.artifact(behind.input(base, "tokenizer")),
        examples=behind.artifact(behind.input(clean, "questions")),
        deduplicated=behind.artifact(deduplicated),
        corpora=tuple(corpora),
        items={name: behind.output(scores.inputs[name]) for name in ITEMS if name in scores.inputs},
    )


def _corpus(behind: "_Behind", shards: Manifest) -> OldCorpus:
    clean = behind.input(shards, "documents")
    scored = behind.input(behind.input(behind.input(clean, "documents"), "documents"), "documents")
    return OldCorpus(behind.artifact(scored), behind.artifact(clean), behind.artifact(shards))


@dataclass(frozen=True)
class _Behind:
    """Walks from an artifact to those that it was built from."""

    store: Store

    def manifest(self, stage: str, key: str) -> Manifest:
        """Return the manifest; raise UserError where the artifact is not whole."""
        found = self.store.find(stage, key)
        if found is None:
            raise UserError(
                f"retrain: {stage}/{key[:12]} behind the current model is not whole in {str(self.store.root)!r}; run "
                "its recipe again, or promote another model"
            )
        return found

    def input(self, manifest: Manifest, name: str) -> Manifest:
        """Return the manifest of what came in by this name."""
        entry = manifest.inputs.get(name)
        if entry is None:
            raise UserError(
                f"retrain: {manifest.stage}/{manifest.key[:12]} behind the current model was built without {name}; "
                "promote a model that full, release or retrain has packaged"
            )
        return self.manifest(entry.stage, entry.key)

    def artifact(self, manifest: Manifest) -> Artifact:
        """Return the artifact, as a node of its own name."""
        folder = self.store.folder(manifest.stage, manifest.key)
        return Artifact(manifest.stage, f"current.{manifest.stage}", manifest.key, folder, manifest.outputs)

    def output(self, entry: InputEntry) -> Output:
        """Return an output that was read."""
        return self.artifact(self.manifest(entry.stage, entry.key))[entry.output]
