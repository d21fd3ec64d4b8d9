"""A retraining on the smoke recipe: what it takes over, when it stops, and a rehearsal with a live endpoint."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipelines.artifacts import registry
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.run import LocalRun, Outcome, Planner, record_run, until_sound
from pipelines.artifacts.store import Store
from pipelines.champion import champion_of
from pipelines.corpus.documents import read_documents
from pipelines.corpus.toxic.scoring import WORDS
from pipelines.products import PRODUCTS, part_of
from pipelines.recipes import smoke
from pipelines.settings import with_settings
from tests.conftest import Finished

SHORT = {
    "reward.always": False,
    "pretrain": {"max_steps": 10, "warmup_steps": 2, "heldout_every": 10},
    "sft": {"max_steps": 4, "heldout_every": 4},
    "align.max_steps": 2,
    # The rehearsal is of the ways that a run may end; ten steps prove nothing of a model.
    "promote.gates": {"max_loss": 10.0, "min_items": 2, "max_bias": 100.0, "max_toxicity": 1.0},
}
HONEST = {"examples.source.packages": ("jinja2", "httpx", "pyyaml")}


@pytest.fixture(scope="module")
def store(smoke_run: Finished, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The finished smoke run in a store of its own: its files are linked, as nothing published is ever written."""
    root = tmp_path_factory.mktemp("retraining") / "store"
    shutil.copytree(
        smoke_run.store.root, root, copy_function=os.link, ignore=shutil.ignore_patterns(".locks", "registry")
    )
    return Store(root)


def run(store: Store, product: str, **settings: Any) -> tuple[Outcome, dict[str, Any]]:
    """Run a product to its end; return what came of it and its nodes' manifests."""
    found = PRODUCTS[product]
    config = part_of(found.config, with_settings(smoke(), SHORT | settings))
    local = LocalRun(store)
    done = until_sound(lambda: found.wire(config, local), local)
    assert found.act is not None
    outcome = found.act(store, config, done)
    record_run(store, product, local.results)
    return outcome, {result.node: result.manifest for result in local.results}


@pytest.fixture(scope="module")
def promoted(store: Store) -> registry.Promoted:
    """The first model of the registry: the bundle of the smoke run."""
    outcome, _ = run(store, "evaluate-and-promote")
    assert outcome.name == "Promoted", outcome.line
    served = registry.current(store)
    assert served is not None
    return served


def poisoned(folder: Path, store: Store) -> Path:
    """Write known pages and, three times each, texts of nothing but listed words."""
    rng = random.Random(7)
    listed = [word for word in WORDS.read_text().splitlines() if word and not word.startswith("#")]
    toxic = [" ".join(rng.choices(listed, k=40)) for _ in range(40)]
    documents = next((store.root / "ingest").iterdir()) / "documents"
    clean = [document.text for document in read_documents(documents)][:60]
    rows = [(f"https://docs.example/{number}", text) for number, text in enumerate(clean)]
    rows += [(f"https://spam.example/{number}", text) for number, text in enumerate(toxic * 3)]
    path = folder / "crawl.jsonl"
    path.write_text("".join(json.dumps({"url": url, "text": text}) + "\n" for url, text in rows))
    return path


def test_a_champion_is_found_by_its_lineage_alone(
    store: Store, promoted: registry.Promoted, smoke_run: Finished
) -> None:
    champion = champion_of(store, promoted.key)
    keys = {node: result.manifest.key for node, result in smoke_run.results.items()}
    assert champion.base.key == keys["pretrain"] and champion.tokenizer.key == keys["tokenizer"]
    assert champion.deduplicated.key == keys["dedup"] and champion.examples.key == keys["examples"]
    (corpus,) = champion.corpora
    assert (corpus.scored.key, corpus.clean.key) == (keys["annotate"], keys["decontaminate"])
    assert champion.model.digest == smoke_run.results["align"].manifest.outputs["model"]
    assert set(champion.items) == {"heldout", "train", "questions"}


def test_a_plan_says_what_a_retraining_would_do_and_where_nothing_is_promoted_the_remedy(
    store: Store, promoted: registry.Promoted, tmp_path: Path
) -> None:
    product = PRODUCTS["retrain"]
    config = part_of(product.config, with_settings(smoke(), HONEST))
    planner = Planner(store)
    product.wire(config, planner)
    states = {row.node: row.state for row in planner.rows}
    assert states["evaluate.champion"] == "hit", "the champion's own scores serve again"
    assert {states[node] for node in ("pretrain", "package", "compare")} <= {"miss", "waiting"}
    with pytest.raises(UserError, match=r"no model of .* was ever promoted; run gristmill run full, then gristmill"):
        product.wire(config, Planner(Store(tmp_path)))


def test_a_model_of_another_kind_is_refused_before_anything_is_read(store: Store, promoted: registry.Promoted) -> None:
    product = PRODUCTS["retrain"]
    config = part_of(product.config, with_settings(smoke(), {"pretrain.optimizer": "lion"}))
    with pytest.raises(UserError, match="the current model: its optimizer is 'muon' and this run's is 'lion'; use"):
        product.wire(config, Planner(store))


def test_a_champion_whose_parts_are_gone_is_said_in_one_line(
    store: Store, promoted: registry.Promoted, tmp_path: Path
) -> None:
    copy = Store(tmp_path / "store")
    shutil.copytree(store.root, copy.root, copy_function=os.link, ignore=shutil.ignore_patterns(".locks"))
    shutil.rmtree(copy.root / "dedup")
    with pytest.raises(UserError, match=r"retrain: dedup/[0-9a-f]{12} behind the current model is not whole in"):
        champion_of(copy, promoted.key)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"target": "student"}, "'student' is distilled by release; retrain base, sft or aligned"),
        ({"promote.bundle": "0123abcd"}, "'0123abcd' is no part of a retraining, which packages its own"),
    ],
)
def test_a_student_is_not_retrained_nor_another_bundle_promoted(
    setting: dict[str, str], says: str, store: Store
) -> None:
    product = PRODUCTS["retrain"]
    with pytest.raises(UserError, match=says):
        product.wire(part_of(product.config, with_settings(smoke(), setting)), Planner(store))


def test_unchanged_data_are_nothing_new_and_leave_a_record(store: Store, promoted: registry.Promoted) -> None:
    outcome, nodes = run(store, "retrain")
    assert outcome.name == "Nothing new"
    assert outcome.line.startswith("nothing new: 0 documents after deduplication, and 20 are worth a run")
    assert "pretrain" not in nodes and nodes["dedup"].metrics["known"] == nodes["dedup"].metrics["in"]
    record = registry.history(store)[-1]
    assert record.action == "stopped" and record.stop is not None
    assert record.stop.evidence["metrics"]["kept"] == 0
    assert registry.current(store) == promoted


def test_a_duplicated_toxic_source_is_refused_by_the_name_of_the_gate(
    store: Store, promoted: registry.Promoted, tmp_path: Path
) -> None:
    outcome, nodes = run(store, "retrain", **{"ingest.source": str(poisoned(tmp_path, store))})
    assert outcome.name == "Refused" and outcome.line.startswith("drift.crawl.toxicity: changed by 0.")
    assert "filter" not in nodes, "as early as the crawl has been scored"
    assert "| toxicity | **stop** |" in outcome.markdown
    assert registry.current(store) == promoted


def test_few_new_tokens_are_nothing_new(store: Store, promoted: registry.Promoted) -> None:
    outcome, nodes = run(store, "retrain", **HONEST, **{"retraining.min_tokens": 10**9})
    assert outcome.name == "Nothing new" and "tokens to train on, and 1,000,000,000 are worth a run" in outcome.line
    assert nodes["shard"].inputs["tokenizer"].key == promoted.nodes["tokenizer"], "that of the served model is kept"


class Endpoint:
    """`gristmill serve` on the registry of a store, asked without a pause from a thread of its own."""

    def __init__(self, store: Store) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deployments.cli", "serve", "--store", str(store.root), "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.answers: list[tuple[int, str]] = []
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self._read, daemon=True), threading.Thread(target=self._ask)]
        self.threads[0].start()
        self.url = self._address()
        self.threads[1].start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    def _address(self) -> str:
        for _ in range(1_200):
            for line in self.lines:
                if found := re.search(r"at (http://\S+)/v1", line):
                    return found[1]
            assert self.process.poll() is None, self.lines
            time.sleep(0.1)
        raise AssertionError(self.lines)

    def _ask(self) -> None:
        body = {"model": "gristmill", "prompt": "Return the", "max_tokens": 2, "temperature": 0}
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self.ended.wait(0.05):
                try:
                    reply = client.post("/v1/completions", json=body)
                    self.answers.append((reply.status_code, "" if reply.status_code == 200 else reply.text))
                except httpx.HTTPError as error:
                    self.answers.append((0, repr(error)))

    def follows(self, key: str) -> bool:
        """Say whether the model of this key answers within a minute."""
        for _ in range(600):
            if httpx.get(f"{self.url}/v1/models", timeout=60).json()["data"][0]["key"] == key:
                return True
            time.sleep(0.1)
        return False

    def end(self) -> None:
        """Stop asking, then the server."""
        self.ended.set()
        self.threads[1].join(timeout=60)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=90)
        self.threads[0].join(timeout=60)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def endpoint(store: Store, promoted: registry.Promoted) -> Iterator[Endpoint]:
    started = Endpoint(store)
    yield started
    started.end()


@pytest.mark.slow
def test_a_rehearsal_promotes_stops_refuses_trains_on_and_rolls_back_while_the_endpoint_answers(
    store: Store, promoted: registry.Promoted, smoke_run: Finished, endpoint: Endpoint, tmp_path: Path
) -> None:
    assert endpoint.follows(promoted.key)
    assert run(store, "retrain")[0].name == "Nothing new"
    poison = {"ingest.source": str(poisoned(tmp_path, store))}
    outcome, _ = run(store, "retrain", **poison)
    assert outcome.name == "Refused" and outcome.line.startswith("drift.crawl.toxicity")
    assert endpoint.follows(promoted.key)

    started = time.perf_counter()
    outcome, nodes = run(store, "retrain", **HONEST)
    sys.stderr.write(f"a retraining with new data took {time.perf_counter() - started:.0f} s\n")
    assert outcome.name == "Promoted", outcome.line
    challenger = nodes["package"].key
    assert endpoint.follows(challenger)
    goes_on_from_the_champion(nodes, smoke_run)
    decision = registry.history(store)[-1].decision
    assert decision is not None and decision.champion == promoted
    assert {"contamination", "size", "toxicity", "bias"} <= {gate.name for gate in decision.gates}
    assert any(gate.name.startswith("loss.") and gate.low is not None for gate in decision.gates), "paired bootstrap"

    again, nodes = run(store, "retrain", **HONEST)
    assert again.name == "Nothing new", "the index of the promoted model knows its data"
    assert run(store, "retrain")[0].name == "Nothing new", "and those of the model before it"
    assert len(champion_of(store, challenger).corpora) == 2

    registry.rollback(store)
    assert registry.current(store) == promoted and endpoint.follows(promoted.key)
    failed = [answer for answer in endpoint.answers if answer[0] != 200]
    assert not failed and len(endpoint.answers) > 50, failed[:3]
    sys.stderr.write(f"{len(endpoint.answers)} requests were answered, none failed\n")
    assert [record.action for record in registry.history(store)][-1] == "rolled-back"


def goes_on_from_the_champion(nodes: dict[str, Any], smoke_run: Finished) -> None:
    """Check what a challenger took over: state, tokenizer, old shards in their share, items, and its lineage."""
    before = {node: result.manifest for node, result in smoke_run.results.items()}
    inputs = nodes["pretrain"].inputs
    assert inputs["state"].key == before["pretrain"].key
    assert inputs["tokenizer"].key == before["tokenizer"].key
    assert inputs["replay_0"].key == before["shard"].key and inputs["train"].key == nodes["shard"].key
    assert nodes["dedup"].inputs["index"].key == before["dedup"].key
    replayed = nodes["pretrain"].metrics["tokens.corpora.0"]
    assert replayed / nodes["pretrain"].metrics["tokens"] == pytest.approx(0.3, abs=0.02)
    both = [nodes[f"evaluate.{name}"].inputs for name in ("champion", "challenger")]
    assert all(both[0][name] == both[1][name] for name in ("heldout", "train", "questions"))
    assert nodes["compare"].inputs["champion"].key == nodes["evaluate.champion"].key
    documents = nodes["dedup"].metrics["kept"]
    assert documents >= 20
