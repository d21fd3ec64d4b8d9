"""From a packaged model to a decision: who stands against whom, on which items, and what the gates say of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ConfigDict, Field

from pipelines.artifacts import registry
from pipelines.artifacts.collect import run_records
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.manifest import Artifact, InputEntry, Manifest, Output
from pipelines.artifacts.records import NOTHING_NEW, Promoted, Record
from pipelines.artifacts.run import Outcome, Run
from pipelines.artifacts.stage import StageConfig
from pipelines.artifacts.store import Store
from pipelines.evaluation.compare import COMPARE, CompareConfig
from pipelines.evaluation.evaluate import EVALUATE, EvaluateConfig
from pipelines.evaluation.gates import GatesConfig
from pipelines.reporting.decision import decision_markdown
from pipelines.tokens.shard import SHARD, ShardConfig

if TYPE_CHECKING:
    from pipelines.config import EvaluateAndPromoteConfig

NEWEST = "newest"


class PromoteConfig(StageConfig):
    """Which packaged model is to be served, and what it must hold."""

    model_config = ConfigDict(title="Promotion")
    bundle: str = Field(
        NEWEST,
        pattern=r"^(newest|[0-9a-f]{6,64})$",
        description="The packaged model: newest, or the first digits of its key",
    )
    gates: GatesConfig = Field(GatesConfig(), description="What it must hold to be served.")
    trials: int = Field(5, ge=1, le=100, description="Replies that are timed")
    trial_tokens: int = Field(32, ge=2, le=1_024, description="Longest such reply")
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="Where replies are timed")


@dataclass(frozen=True)
class Contest:
    """A packaged model, the one that is served, and on what the two are scored."""

    challenger: Promoted
    champion: Promoted | None
    """None where nothing was ever promoted: there is nothing to lose against."""
    evaluation: EvaluateConfig
    """The challenger's own, for both."""
    inputs: Mapping[str, Output]
    """The challenger's model and the items."""


@dataclass(frozen=True)
class Contested:
    """A contest whose models are scored and compared."""

    contest: Contest
    challenger: Artifact
    """Evaluation of the challenger."""
    champion: Artifact | None
    compared: Artifact | None


def contest_of(store: Store, bundle: str = NEWEST) -> Contest:
    """Return who stands against whom; raise UserError where there is no such bundle or what it needs is gone.

    `bundle` is `newest`, that of the newest finished run, or the first digits of a key of `package`. The registry is
    read once, here; `conclude` refuses to move the pointer if it has moved meanwhile.
    """
    challenger = registry.candidate(store, _key_of(store, bundle))
    scored = _manifest(store, "evaluate", challenger)
    inputs = {name: _output(store, entry) for name, entry in scored.inputs.items()}
    evaluation = EvaluateConfig.model_validate(scored.config)
    return Contest(challenger, registry.current(store), evaluation, inputs)


def evaluate_and_promote(config: "EvaluateAndPromoteConfig", run: Run) -> Contested:
    """Score a packaged model and the one that is served on the same items, and compare the two."""
    return contested(contest_of(run.store, config.promote.bundle), config.compare, run)


def promote(store: Store, config: "EvaluateAndPromoteConfig", done: Contested) -> Outcome:
    """Serve the challenger if it passes every gate; either way file the decision."""
    return conclude(store, config.promote, done)


def contested(contest: Contest, compare: CompareConfig, run: Run) -> Contested:
    """Score both models on the challenger's items and compare them; what the store has is a hit.

    The challenger's own evaluation is usually in the store, and one that is served already is compared with nobody.
    Held-out text is sharded anew with the champion's tokenizer where that is another one.
    """
    inputs = contest.inputs
    challenger = run(EVALUATE, contest.evaluation, node="evaluate.challenger", **inputs)
    if contest.champion is None or contest.champion.digest == contest.challenger.digest:
        return Contested(contest, challenger, None, None)
    model = _output(run.store, _manifest(run.store, "evaluate", contest.champion).inputs["model"])
    own = {**inputs, "model": model, **_resharded(contest, run)}
    champion = run(EVALUATE, contest.evaluation, node="evaluate.champion", **own)
    compared = run(COMPARE, compare, champion=champion["items"], challenger=challenger["items"])
    return Contested(contest, challenger, champion, compared)


def conclude(store: Store, config: PromoteConfig, done: Contested) -> Outcome:
    """Gather the evidence, decide, and move the pointer or file the refusal.

    The bundle is verified and timed here, each time anew: a measurement belongs to its decision and is not cached. A
    challenger that is served already is said to be, and no record is made. Raises UserError where the registry has
    moved since the contest was set.
    """
    from pipelines.evaluation.evidence import gather
    from pipelines.evaluation.gates import decide

    contest = done.contest
    now = registry.current_record(store)
    if now and now.model.digest == contest.challenger.digest:
        line = f"package/{contest.challenger.key[:12]} is served already; nothing was decided"
        return Outcome("Current", line, decision_markdown(now), now.model_dump(mode="json"))
    evidence = gather(store, config, done)
    decision = decide(config.gates, evidence, challenger=contest.challenger, champion=contest.champion)
    return outcome_of(registry.promote(store, decision))


def outcome_of(record: Record) -> Outcome:
    """Return a new record for the terminal, the flow run's state and its report."""
    named = f"package/{record.model.key[:12]}"
    page, facts = decision_markdown(record), record.model_dump(mode="json")
    if record.stop:
        name = "Nothing new" if record.stop.gate == NOTHING_NEW else "Refused"
        line = f"{record.stop.gate}: {record.stop.says} (record {record.number}); {named} stays"
        return Outcome(name, line, page, facts)
    failed = record.decision.failed if record.decision else ()
    why = "; ".join(f"{gate.name}: {gate.says}" for gate in failed)
    lines = {
        "promoted": f"{named} is served now (record {record.number})",
        "rolled-back": f"{named} is served again (record {record.number})",
        "refused": f"{named} by {why} (record {record.number}); what was served stays",
    }
    name = record.action.replace("-", " ").capitalize()
    return Outcome(name, lines[record.action], page, facts)


def _key_of(store: Store, bundle: str) -> str:
    if bundle == NEWEST:
        return newest(store, "package").name
    found = [manifest.key for manifest in store.manifests("package") if manifest.key.startswith(bundle)]
    if len(found) != 1:
        many = "fits several; give more digits" if found else "is none; see gristmill artifacts list package"
        raise UserError(f"bundle: {bundle!r} {many}")
    return found[0]


def newest(store: Store, stage: str) -> Path:
    """Return the newest finished run's artifact of this stage; raise UserError where there is none."""
    for record in run_records(store):
        for node in json.loads(record.read_text())["nodes"]:
            if node["stage"] == stage and store.find(stage, node["key"]):
                return store.folder(stage, node["key"])
    raise UserError(f"store: {str(store.root)!r} has no {stage} of a finished run; run gristmill run first")


def _manifest(store: Store, stage: str, model: Promoted) -> Manifest:
    """Return the manifest of the artifact of this stage behind the model."""
    key = model.nodes.get(stage, "")
    manifest = store.find(stage, key) if key else None
    if manifest is None:
        what = f"{stage}/{key[:12]} has left the store" if key else f"it was packaged without {stage}"
        raise UserError(f"bundle: package/{model.key[:12]}: {what}; run its recipe again")
    return manifest


def _output(store: Store, entry: InputEntry) -> Output:
    """Return an input of an earlier build as an input for another."""
    if store.find(entry.stage, entry.key) is None:
        raise UserError(f"bundle: {entry.stage}/{entry.key[:12]} has left the store; run the recipe again")
    path = store.folder(entry.stage, entry.key) / entry.output
    return Output(entry.stage, entry.key, entry.output, entry.digest, path, f"{entry.stage}/{entry.key[:12]}")


def _resharded(contest: Contest, run: Run) -> dict[str, Output | None]:
    """Return the held-out text as the champion reads it: nothing new where both models have one tokenizer."""
    assert contest.champion is not None  # noqa: S101 - the caller has looked
    ours = _manifest(run.store, "shard", contest.challenger)
    theirs = _manifest(run.store, "shard", contest.champion).inputs["tokenizer"]
    if theirs.digest == ours.inputs["tokenizer"].digest:
        return {}
    sharded = run(
        SHARD,
        ShardConfig.model_validate(ours.config),
        node="shard.champion",
        documents=_output(run.store, ours.inputs["documents"]),
        tokenizer=_output(run.store, theirs),
    )
    return {"heldout": sharded["heldout"], "train": sharded["train"]}
