"""What the gates look at, gathered from the store and measured on the bundle."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq

from pipelines.artifacts.collect import named_in
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.manifest import Manifest
from pipelines.artifacts.pins import FileRoot, source_files
from pipelines.artifacts.records import Promoted
from pipelines.artifacts.store import Store, damage, read_manifest
from pipelines.corpus.decontaminate import SUFFIXES
from pipelines.evaluation.gates import Contamination, Evidence, Latency
from pipelines.evaluation.pairing import read_comparison
from pipelines.evaluation.promotion import Contested, PromoteConfig
from pipelines.evaluation.scores import read_scores
from pipelines.serving.bundle import Bundle, open_bundle
from pipelines.serving.latency import measure_latency


def gather(store: Store, config: PromoteConfig, done: Contested) -> Evidence:
    """Return the evidence of a contest; the bundle is verified and, where it holds together, timed."""
    contest = done.contest
    challenger = contest.challenger
    fault, opened = verified(store, challenger)
    contamination = contamination_of(store, challenger, done)
    latency = timed(store, config, challenger) if opened else None
    weights = opened.index.precisions[opened.index.default_precision].bytes if opened else 0
    return Evidence(
        scores=read_scores(done.challenger.path / "scores" / "scores.json"),
        comparison=read_comparison(done.compared.path / "comparison") if done.compared else None,
        contamination=contamination,
        bundle_fault=fault,
        bytes=weights,
        latency=latency,
        more={
            "evaluation.challenger": done.challenger.key,
            "evaluation.champion": done.champion.key if done.champion else None,
            "comparison": done.compared.key if done.compared else None,
            "contamination": asdict(contamination),
            "latency": asdict(latency) if latency else None,
        },
    )


def verified(store: Store, model: Promoted) -> tuple[str | None, Bundle | None]:
    """Return what is wrong with the bundle, or None and the bundle: every byte is read."""
    folder = store.folder("package", model.key)
    bad = damage(folder, "bundle")
    if bad:
        return f"{bad[0]} of package/{model.key[:12]} is damaged; gristmill artifacts verify, then run again", None
    try:
        return None, open_bundle(model.bundle(store))
    except UserError as error:
        return str(error), None


def timed(store: Store, config: PromoteConfig, model: Promoted) -> Latency:
    """Return how fast the bundle answers the prompt that it was packaged with."""
    manifest = read_manifest(store.folder("package", model.key))
    prompt = str(manifest.config["trial_prompt"]) if manifest else ""
    return measure_latency(
        model.bundle(store), prompt, trials=config.trials, tokens=config.trial_tokens, device=config.device
    )


def contamination_of(store: Store, model: Promoted, done: Contested) -> Contamination:
    """Return what the lineage says of the items that the model was scored on.

    Every token shard behind the model, replayed and mixed-in ones too, must be of documents that `decontaminate`
    searched for each item set of the evaluation, by content. Hits left are held-out documents that were scored and are
    in the training split of any of those shards.
    """
    contest = done.contest
    behind = {(item.stage, item.key): item for item in everything_behind(store, "package", model.key)}
    shards = [item for (stage, _), item in behind.items() if stage == "shard"]
    sets = ["held-out documents"] if "heldout" in contest.inputs else []
    unsearched = []
    searches = [_search_behind(item, behind) for item in shards]
    for name in ("questions", "mirror"):
        if name == "questions" and ("questions" not in contest.inputs or not contest.evaluation.questions):
            continue
        if name == "mirror" and not contest.evaluation.tasks:
            continue
        sets.append(name)
        wanted = _digest_of(store, done, name)
        for shard, search in zip(shards, searches, strict=True):
            if search is None:
                unsearched.append(f"{name} in shard/{shard.key[:12]}, whose documents no decontaminate has read")
            elif wanted is None or _searched(search, name) != wanted:
                unsearched.append(f"{name} in decontaminate/{search.key[:12]}")
    return Contamination(tuple(sets), tuple(dict.fromkeys(unsearched)), _leaked(store, done, shards))


def everything_behind(store: Store, stage: str, key: str) -> Iterator[Manifest]:
    """Yield the manifest of the artifact and of all behind it, those that configs name by their path among them."""
    pending, seen = [(stage, key)], set()
    while pending:
        place = pending.pop()
        manifest = None if place in seen else read_manifest(store.folder(*place))
        seen.add(place)
        if manifest is not None:
            yield manifest
            pending += [(entry.stage, entry.key) for entry in manifest.inputs.values()]
            pending += named_in(store, manifest.config)


def _search_behind(shard: Manifest, behind: dict[tuple[str, str], Manifest]) -> Manifest | None:
    """Return the search that the shard's documents went through, None where they went through none."""
    entry = shard.inputs.get("documents")
    return behind.get((entry.stage, entry.key)) if entry and entry.stage == "decontaminate" else None


def _digest_of(store: Store, done: Contested, name: str) -> str | None:
    """Return the content digest of an item set that the challenger was scored on; None where it is not in the store."""
    if name == "questions":
        return done.contest.inputs["questions"].digest
    mirror = done.contest.evaluation.mirror
    if mirror is None:
        return None  # read from the hub by revision: no corpus was searched for it
    return FileRoot(source_files(mirror, SUFFIXES, "mirror"), "mirror").pin(store.pins)


def _searched(search: Manifest, name: str) -> str | None:
    """Return the content digest of the item set that a corpus was searched for."""
    if name == "mirror":
        return search.roots.get("mirror")
    return search.inputs[name].digest if name in search.inputs else None


def _leaked(store: Store, done: Contested, shards: list[Manifest]) -> int:
    """Return how many held-out documents are in a training split behind the model."""
    if "heldout" not in done.contest.inputs:
        return 0
    held = set(_documents(done.contest.inputs["heldout"].path))
    found: set[str] = set()
    for shard in shards:
        found |= held.intersection(_documents(store.folder("shard", shard.key) / "train"))
    return len(found)


def _documents(split: Path) -> Iterator[str]:
    with pq.ParquetFile(split / "spans.parquet") as file:
        for batch in file.iter_batches(columns=["document_id"]):
            yield from batch.column(0).to_pylist()
