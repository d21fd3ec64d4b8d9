"""From packaged models to decisions, on the finished smoke run: one is served, one refused, one rolled back."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.options import Options
from deployments.promotion import promote, rollback
from pipelines.artifacts import registry
from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.manifest import Output
from pipelines.artifacts.records import Promoted
from pipelines.artifacts.run import LocalRun, Planner, record_run
from pipelines.artifacts.store import Store
from pipelines.config import ReleaseConfig
from pipelines.evaluation.evidence import contamination_of
from pipelines.evaluation.promotion import Contested, contest_of, contested
from pipelines.products import part_of, release
from pipelines.recipes import smoke
from pipelines.settings import with_settings
from pipelines.tokens.shard import SHARD
from pipelines.tokens.tokenizer import TOKENIZER, TokenizerConfig
from tests.conftest import Finished


@pytest.fixture(scope="module")
def store(smoke_run: Finished, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The smoke run's store, by hard links: what is promoted here is promoted nowhere else."""
    root = tmp_path_factory.mktemp("promotion") / "store"
    shutil.copytree(smoke_run.store.root, root, copy_function=os.link)
    shutil.rmtree(root / "registry", ignore_errors=True)
    return Store(root)


def released(store: Store, **changes: object) -> Promoted:
    """Package another model of the smoke recipe in this store as the newest run and return it."""
    config = part_of(ReleaseConfig, with_settings(smoke(), changes))
    local = LocalRun(store)
    bundle = release(config, local).bundle
    record_run(store, "release", local.results)
    return registry.candidate(store, bundle.key)


def promoted(store: Store, bundle: str = "newest", *changes: str) -> None:
    promote(bundle, options=Options(recipe="smoke", set=changes, store=store.root, json=True))


@pytest.fixture(scope="module")
def first(store: Store) -> Promoted:
    """The model of the smoke run, promoted."""
    promoted(store)
    now = registry.current(store)
    assert now is not None
    return now


def contest(store: Store) -> Contested:
    """The contest of the smoke run's own bundle, planned only: its evidence is in the lineage."""
    found = contest_of(store, registry.history(store)[0].model.key)
    return contested(replace(found, champion=None), smoke().compare, Planner(store))


def test_the_first_model_passes_every_gate_and_its_lineage_is_recorded(store: Store, first: Promoted) -> None:
    (record,) = registry.history(store)
    assert record.decision is not None and record.decision.passed
    assert {"bundle", "bias", "toxicity", "contamination", "size"} <= {gate.name for gate in record.decision.gates}
    assert {"tokenizer", "pretrain", "dedup", "shard", "evaluate", "sft"} <= set(first.nodes)
    assert record.decision.evidence["latency"]["tokens_per_second"] > 0


def test_what_is_served_already_is_said_and_makes_no_record(
    store: Store, first: Promoted, capsys: pytest.CaptureFixture[str]
) -> None:
    promote("newest", options=Options(recipe="smoke", store=store.root))
    assert "is served already" in capsys.readouterr().out
    assert len(registry.history(store)) == 1


@pytest.mark.slow
def test_a_worse_model_is_refused_by_the_name_of_what_it_lost_and_a_rollback_brings_back_what_was(
    store: Store, first: Promoted, capsys: pytest.CaptureFixture[str]
) -> None:
    student = released(store, target="student")
    with pytest.raises(StageFailed, match=r"refused: package/.* by loss\.docs_heldout\.bits_per_byte: .*stays"):
        promoted(store)
    refused = registry.history(store)[-1]
    assert (refused.action, refused.model) == ("refused", student) and registry.current(store) == first
    assert refused.decision is not None and refused.decision.champion == first
    lost = refused.decision.failed[0]
    assert lost.high is not None and lost.figure is not None and lost.high < 0 and lost.figure < 0
    capsys.readouterr()
    relabelled = released(store, **{"package.licence": "mit"})
    promoted(store)
    record = json.loads(capsys.readouterr().out)
    assert record["action"] == "promoted" and registry.current(store) == relabelled
    gains = [gate["figure"] for gate in record["decision"]["gates"] if gate["name"].startswith("loss.")]
    assert len(gains) >= 3 and set(gains) == {0.0}
    rollback(store=store.root)
    assert registry.current(store) == first
    file = next(relabelled.bundle(store).rglob("*.safetensors"))
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StageFailed, match=r"by bundle: .*safetensors of package/.* is damaged"):
        promoted(store, relabelled.key)
    assert registry.current(store) == first


def test_a_champion_of_another_tokenizer_reads_the_same_text_in_shards_of_its_own(
    store: Store, first: Promoted
) -> None:
    shards = next(item for item in store.manifests("shard") if item.key == first.nodes["shard"])
    documents = shards.inputs["documents"]
    local = LocalRun(store)
    place = store.folder(documents.stage, documents.key) / "documents"
    corpus = Output(documents.stage, documents.key, "documents", documents.digest, place, "decontaminate")
    learnt = local(TOKENIZER, TokenizerConfig(vocab_size=1024), documents=corpus)
    own = local(SHARD, smoke().shard, documents=corpus, tokenizer=learnt["tokenizer"])
    champion = first.model_copy(update={"digest": "0" * 64, "nodes": {**first.nodes, "shard": own.key}})
    planner = Planner(store)
    contested(replace(contest_of(store, first.key), champion=champion), smoke().compare, planner)
    rows = {row.node: row for row in planner.rows}
    assert rows["shard.champion"].key == own.key and rows["shard.champion"].state == "hit"
    assert rows["evaluate.champion"].needs[1:] and "shard.champion" in rows["evaluate.champion"].needs
    assert rows["compare"].state == "waiting"


def test_items_that_no_corpus_was_searched_for_are_contamination(store: Store, first: Promoted) -> None:
    done = contest(store)
    assert contamination_of(store, first, done).unsearched == ()
    other = {**done.contest.inputs, "questions": replace(done.contest.inputs["questions"], digest="0" * 64)}
    found = contamination_of(store, first, replace(done, contest=replace(done.contest, inputs=other)))
    assert found.unsearched == (f"questions in decontaminate/{first.nodes['decontaminate'][:12]}",)


def test_held_out_documents_that_were_trained_on_are_contamination(store: Store, first: Promoted) -> None:
    done = contest(store)
    assert contamination_of(store, first, done).hits_left == 0
    train = replace(done.contest.inputs["heldout"], path=store.folder("shard", first.nodes["shard"]) / "train")
    leaked = replace(done, contest=replace(done.contest, inputs={**done.contest.inputs, "heldout": train}))
    assert contamination_of(store, first, leaked).hits_left > 100


def test_a_bundle_that_is_none_is_one_line(store: Store, tmp_path: Path) -> None:
    for bundle, words in (
        ("0123456789", "is none; see gristmill artifacts list"),
        ("bundle!", "promote.bundle"),
        (str(tmp_path / "bundle"), "is no bundle in"),
    ):
        with pytest.raises(UserError, match=words):
            promoted(store, bundle)
    with pytest.raises(UserError, match="has no package of a finished run"):
        promoted(Store(tmp_path / "empty"))
