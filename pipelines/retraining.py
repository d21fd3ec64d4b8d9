"""The wiring of a retraining: the served model is trained on with new data, or the run ends with the reason why not."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipelines.artifacts import registry
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.manifest import Artifact, Output
from pipelines.artifacts.records import NOTHING_NEW, Promoted, Stop
from pipelines.artifacts.run import Outcome, Run
from pipelines.artifacts.store import Store
from pipelines.champion import REPLAY, Champion, OldCorpus, champion_of
from pipelines.config import RetrainConfig
from pipelines.corpus.decontaminate import DECONTAMINATE
from pipelines.corpus.dedup import DEDUP
from pipelines.corpus.drift import DRIFT
from pipelines.corpus.filter import FILTER
from pipelines.evaluation.compare import COMPARE
from pipelines.evaluation.evaluate import EVALUATE
from pipelines.evaluation.promotion import NEWEST, Contest, Contested, conclude, outcome_of
from pipelines.parts import annotated, crawl, evaluation_sets_are_searched_for, packaged, post_trained
from pipelines.pretraining.combination import check_combination, check_goes_on
from pipelines.pretraining.pretrain import PRETRAIN, PretrainConfig
from pipelines.pretraining.state_facts import check_goes_on_from
from pipelines.settings import checked
from pipelines.tokens.mixture import PARTS
from pipelines.tokens.shard import SHARD


@dataclass(frozen=True)
class Stopped:
    """A retraining that ended before anything was trained, and why."""

    served: Promoted
    why: Stop


@dataclass(frozen=True)
class Fresh:
    """The new documents that are worth training on, and their shards."""

    clean: Artifact
    shards: Artifact


class _Stopping(Exception):
    """Ends the walk of a retraining; `retrain` returns what it carries."""

    def __init__(self, gate: str, says: str, **evidence: Any) -> None:
        super().__init__(says)
        self.why = Stop(gate=gate, says=says, evidence=evidence)


def retrain(config: RetrainConfig, run: Run) -> Stopped | Contested | None:
    """Train the served model on with what is new in a crawl, and set it against the served one.

    Returns why there is nothing to train on, or both models with their scores on the same items; None where this is a
    plan, or a run of some nodes only. Moves no pointer.
    """
    check_combination(config.pretrain)
    check_goes_on(config.pretrain)
    evaluation_sets_are_searched_for(config)
    if config.target == "student":
        raise UserError("target: 'student' is distilled by release; retrain base, sft or aligned")
    if config.promote.bundle != NEWEST:
        raise UserError(f"promote.bundle: {config.promote.bundle!r} is no part of a retraining, which packages its own")
    served = registry.current(run.store)  # read once: what is promoted meanwhile makes the decision void
    if served is None:
        raise UserError(
            f"retrain: no model of {str(run.store.root)!r} was ever promoted; run gristmill run full, then gristmill "
            "promote"
        )
    champion = champion_of(run.store, served.key)
    check_goes_on_from(champion.base["state"].path, config.pretrain, "retrain: the current model")
    try:
        fresh = _fresh(config, run, champion)
    except _Stopping as stop:
        return Stopped(served, stop.why)
    return _challenge(config, run, served, champion, _trained(config, run, champion, fresh))


def conclude_retraining(store: Store, config: RetrainConfig, done: Stopped | Contested) -> Outcome:
    """Let the gates decide between the two models, or file why there was nothing to decide."""
    if isinstance(done, Contested):
        return conclude(store, config.promote, done)
    return outcome_of(registry.stop(store, done.served, done.why))


def _fresh(config: RetrainConfig, run: Run, champion: Champion) -> Fresh:
    """Return what is new in the crawl, or raise _Stopping."""
    _, crawled = crawl(config, run)
    scored = annotated(config, run, crawled)
    drifted = run(
        DRIFT,
        config.drift.crawl,
        node="drift.crawl",
        fresh=scored["documents"],
        **_numbered("old_", (old.scored["documents"] for old in champion.corpora)),
    )
    _stop_at_drift(run, drifted)
    filtered = run(FILTER, config.filter, documents=scored["documents"])
    unique = run(DEDUP, config.dedup, documents=filtered["documents"], index=champion.deduplicated["index"])
    _stop_at_few(run, unique, config.retraining.min_documents, "kept", "documents after deduplication")
    clean = run(
        DECONTAMINATE,
        config.decontaminate,
        node=None,
        documents=unique["documents"],
        **{name: champion.examples[name] for name in ("questions", "instructions", "preferences")},
    )
    _stop_at_few(run, clean, config.retraining.min_documents, "kept", "documents after decontamination")
    shards = run(SHARD, config.shard, documents=clean["documents"], tokenizer=champion.tokenizer["tokenizer"])
    _stop_at_few(run, shards, config.retraining.min_tokens, "tokens.train", "tokens to train on")
    drifted = run(
        DRIFT,
        config.drift.corpus,
        node="drift.corpus",
        fresh=clean["documents"],
        model=champion.base["model"],
        tokens=shards["train"],
        **_numbered("old_", (old.clean["documents"] for old in champion.corpora)),
        **_numbered("heldout_", (old.shards["heldout"] for old in champion.corpora)),
    )
    _stop_at_drift(run, drifted)
    return Fresh(clean, shards)


def _trained(config: RetrainConfig, run: Run, champion: Champion, fresh: Fresh) -> Artifact:
    """Return the target model, trained on from the champion's base with its corpora replayed."""
    share = config.retraining.replay_share
    replayed: tuple[OldCorpus, ...] = champion.corpora if share else ()
    changes: dict[str, object] = {"seed": config.pretrain.seed + len(champion.corpora)}  # else each replays the same
    if replayed:
        changes["mixture"] = config.pretrain.mixture.model_copy(update={"weight": round(PARTS * (1 - share))})
    base = run(
        PRETRAIN,
        checked(PretrainConfig, dict(config.pretrain) | changes, "pretrain"),
        node=None,
        train=fresh.shards["train"],
        heldout=champion.items["heldout"],  # the loss goes on where the champion's curve ended
        tokenizer=champion.tokenizer["tokenizer"],
        state=champion.base["state"],
        **_numbered(REPLAY, (old.shards["train"] for old in replayed)),
    )
    sft, _, aligned = post_trained(config, run, base, champion.examples)
    return {"base": base, "sft": sft, "aligned": aligned}[config.target]


def _challenge(
    config: RetrainConfig, run: Run, served: Promoted, champion: Champion, model: Artifact
) -> Contested | None:
    """Score and package the challenger, and score the champion on the same items."""
    evaluation = getattr(config.evaluate, config.target)
    inputs = {"model": model["model"], **champion.items}
    challenger = run(EVALUATE, evaluation, node="evaluate.challenger", **inputs)
    own = {**inputs, "model": champion.model}
    before = run(EVALUATE, evaluation, node="evaluate.champion", **own)
    *_, bundle = packaged(config, run, model["model"], champion.items["heldout"], challenger["scores"])
    compared = run(COMPARE, config.compare, champion=before["items"], challenger=challenger["items"])
    if bundle.planned or compared.planned:
        return None
    contest = Contest(registry.candidate(run.store, bundle.key), served, evaluation, inputs)
    return Contested(contest, challenger, before, compared)


def _numbered(stem: str, outputs: Iterable[Output]) -> dict[str, Output]:
    """Return the outputs as inputs of one kind: `stem` with a number each."""
    return {f"{stem}{number}": output for number, output in enumerate(outputs)}


def _stop_at_few(run: Run, artifact: Artifact, least: int, metric: str, what: str) -> None:
    """Raise _Stopping where a finished stage has left fewer than so many."""
    manifest = None if artifact.planned else run.store.find(artifact.stage, artifact.key)
    if manifest is None or manifest.metrics[metric] >= least:
        return
    says = f"{manifest.metrics[metric]:,.0f} {what}, and {least:,} are worth a run"
    raise _Stopping(NOTHING_NEW, says, artifact=f"{artifact.stage}/{artifact.key}", metrics=manifest.metrics)


def _stop_at_drift(run: Run, artifact: Artifact) -> None:
    """Raise _Stopping where a measure drifted that is configured to end the run."""
    if artifact.planned:
        return
    measures = json.loads((artifact.path / "drift" / "drift.json").read_text())["measures"]
    for row in measures:
        if row["drifted"] and row["on_drift"] == "stop":
            says = f"changed by {row['effect']:.3g}, at most {row['max_effect']:g} (p {row['p']:.2g}, {row['test']})"
            gate = f"{artifact.node}.{row['measure']}"
            raise _Stopping(gate, says, artifact=f"{artifact.stage}/{artifact.key}", measures=measures)
