"""Ladders in a store: pre-training runs that differ in size, length and learning rate and in nothing else."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipelines.artifacts.canonical import digest_of
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.manifest import Manifest
from pipelines.artifacts.store import Store
from pipelines.planning.counts import counts_of
from pipelines.pretraining.pretrain import PRETRAIN, PretrainConfig

VARIED = {"size", "max_steps", "lr", "warmup_steps", "seed"}
"""What the runs of one ladder may differ in, and what follows from it."""
FIT_RUNS = 8
"""Runs that a fit needs: its five figures and three to tell whether they hold."""
LEVELS = 3
"""Sizes, and lengths, of which it needs as many at least."""


@dataclass(frozen=True)
class Rung:
    """One finished run."""

    key: str
    size: str
    parameters: int
    tokens: int
    lr: float
    loss: float
    flops: float


@dataclass(frozen=True)
class Ladder:
    """Runs that compare, from the cheapest to the dearest, and what they have in common."""

    rungs: tuple[Rung, ...]
    config: PretrainConfig
    vocab_size: int
    others: int
    """Further ladders in the store."""

    def best(self) -> tuple[Rung, ...]:
        """Return the run of the lowest loss of each size and length, the cheapest first."""
        found: dict[tuple[int, int], Rung] = {}
        for rung in self.rungs:
            place = rung.parameters, rung.tokens
            if place not in found or rung.loss < found[place].loss:
                found[place] = rung
        return tuple(found.values())

    def split(self) -> tuple[tuple[Rung, ...], Rung]:
        """Return the runs to fit, and the dearest one, to test the fit; raise UserError where they are too few."""
        best = self.best()
        fitted, test = best[:-1], best[-1]
        sizes, lengths = ({getattr(rung, name) for rung in fitted} for name in ("parameters", "tokens"))
        if len(fitted) < FIT_RUNS or min(len(sizes), len(lengths)) < LEVELS:
            raise UserError(
                f"scale: the ladder has {len(best)} runs, {len(fitted)} to fit and the dearest to test the fit, of "
                f"{len(sizes)} sizes and {len(lengths)} lengths; {FIT_RUNS} to fit, of {LEVELS} sizes and {LEVELS} "
                "lengths at least, are needed: train more with other pretrain.size and pretrain.max_steps"
            )
        return fitted, test


def ladder_in(store: Store, like: str | None) -> Ladder:
    """Return the ladder of the run whose key begins with `like`, or the one of the most runs.

    Raises UserError where the store has none, or several runs or none of such a key.
    """
    groups: defaultdict[str, list[Manifest]] = defaultdict(list)
    for manifest in store.manifests(PRETRAIN.name):
        if "heldout_loss" in manifest.metrics and not {"init_from", "state"} & {*manifest.roots, *manifest.inputs}:
            groups[digest_of(_common(manifest))].append(manifest)
    if not groups:
        raise UserError(
            f"scale: {str(store.root)!r} holds no finished pre-training; run gristmill stage pretrain with several "
            "sizes and lengths, or name another store"
        )
    chosen = max(groups.values(), key=len) if like is None else _of(groups.values(), like)
    # Stage and library versions enter the key and may have changed the settings since.
    settings = {name: value for name, value in chosen[0].config.items() if name in PretrainConfig.model_fields}
    config = PretrainConfig.model_validate({**settings, "init_from": None})
    vocab_size = _vocab_size(store, chosen[0])
    rungs = sorted((_rung(manifest, config, vocab_size) for manifest in chosen), key=lambda rung: rung.flops)
    return Ladder(tuple(rungs), config, vocab_size, len(groups) - 1)


def _common(manifest: Manifest) -> dict[str, Any]:
    """Return what the runs of a ladder share."""
    config = manifest.identity["config"]
    return {
        "config": {name: value for name, value in config.items() if name not in VARIED},
        "inputs": {name: entry.digest for name, entry in manifest.inputs.items()},
        "roots": manifest.roots,
        "version": manifest.version,
    }


def _of(groups: Iterable[list[Manifest]], like: str) -> list[Manifest]:
    """Return the group of the one run whose key begins so."""
    found = [(group, item.key) for group in groups for item in group if item.key.startswith(like)]
    if len(found) != 1:
        raise UserError(
            f"--like: {like!r} begins the keys of {len(found)} finished pre-trainings; give more digits of one"
        )
    return found[0][0]


def _vocab_size(store: Store, manifest: Manifest) -> int:
    """Return the size of the vocabulary of a run's tokenizer; raise UserError where that has left the store."""
    entry = manifest.inputs["tokenizer"]
    tokenizer = store.find(entry.stage, entry.key)
    if tokenizer is None or "vocab_size" not in tokenizer.metrics:
        raise UserError(
            f"scale: the tokenizer {entry.key[:12]} of the ladder is not in {str(store.root)!r}; build it again"
        )
    return int(tokenizer.metrics["vocab_size"])


def _rung(manifest: Manifest, config: PretrainConfig, vocab_size: int) -> Rung:
    size, steps = manifest.config["size"], int(manifest.metrics["steps"])
    counts = counts_of(config.model_copy(update={"size": size, "max_steps": steps}), vocab_size)
    return Rung(
        manifest.key,
        size,
        counts.parameters,
        counts.tokens,
        float(manifest.config["lr"]),
        manifest.metrics["heldout_loss"],
        counts.flops,
    )
