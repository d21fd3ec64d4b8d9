"""Flows against a real Prefect server: a hit shows as Cached, a failed stage by its name, a form per config."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.testing.utilities import prefect_test_harness

from flows.data import dedup_only, prepare_corpus
from flows.full import full
from flows.release import evaluate_and_promote
from flows.retrain import retrain
from pipelines.artifacts import registry
from pipelines.artifacts.store import Store
from pipelines.config import DedupOnlyConfig, EvaluateAndPromoteConfig, FullConfig, PrepareCorpusConfig, RetrainConfig
from pipelines.products import part_of
from pipelines.recipes import smoke
from pipelines.settings import with_settings
from tests.conftest import Finished

pytestmark = pytest.mark.filterwarnings("default")  # Prefect's own shutdown is not warning-free


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def in_smoke_store(smoke_run: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_STORE", str(smoke_run.store.root))


def test_a_full_run_of_finished_stages_shows_each_as_cached_and_attaches_the_report(in_smoke_store: None) -> None:
    state = full(smoke(), return_state=True)
    assert state.is_completed(), state.message
    results = state.result()
    assert all(result.hit for result in results)

    async def seen() -> tuple[set[str], list[str]]:
        async with get_client() as client:
            for _ in range(100):  # task states reach the server as events, a moment after the flow has ended
                names = [run.state_name or "" for run in await client.read_task_runs()]
                if len(names) == len(results) and not {"Pending", "Running"} & set(names):
                    break
                await asyncio.sleep(0.2)
            key = ArtifactFilter(key=ArtifactFilterKey(any_=["run-report"]))
            return set(names), [str(item.data) for item in await client.read_artifacts(artifact_filter=key)]

    names, reports = asyncio.run(seen())
    assert names == {"Cached"}
    assert "data:image/png;base64," in reports[-1] and "| pretrain |" in reports[-1]


def test_a_stage_that_fails_shows_its_error_by_name(in_smoke_store: None) -> None:
    config = part_of(PrepareCorpusConfig, with_settings(smoke(), {"filter.gopher.min_words": 90_000}))
    state = prepare_corpus(config, return_state=True)
    assert state.name == "EmptyOutput" and state.is_failed()
    assert "no document is left" in (state.message or "")


def test_dedup_only_runs_alone(in_smoke_store: None) -> None:
    state = dedup_only(part_of(DedupOnlyConfig, smoke()), return_state=True)
    assert [result.node for result in state.result()] == ["examples", "ingest", "dedup", "report"]


def test_the_form_of_every_flow_is_complete() -> None:
    schema = FullConfig.model_json_schema()

    def fields(part: dict[str, object]) -> Iterator[tuple[str, dict[str, object]]]:
        properties = part.get("properties", {})
        assert isinstance(properties, dict)
        yield from properties.items()

    for part in [schema, *schema["$defs"].values()]:
        assert part["title"]
        for name, field in fields(part):
            assert "description" in field or "$ref" in field or "const" in field, f"{part['title']}: {name}"


def test_a_refused_promotion_is_a_completed_run_that_names_the_gate_and_one_that_passes_moves_the_pointer(
    smoke_run: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "store"
    shutil.copytree(smoke_run.store.root, root, copy_function=os.link)
    monkeypatch.setenv("GRISTMILL_STORE", str(root))
    tight = with_settings(smoke(), {"promote.gates.max_bytes": 1})
    refused = evaluate_and_promote(part_of(EvaluateAndPromoteConfig, tight), return_state=True)
    assert refused.is_completed() and refused.name == "Refused"
    assert "by size: " in (refused.message or "") and registry.current(Store(root)) is None
    state = evaluate_and_promote(part_of(EvaluateAndPromoteConfig, smoke()), return_state=True)
    assert state.is_completed() and state.name == "Promoted", state.message
    assert registry.current(Store(root)) is not None

    async def pages() -> list[str]:
        async with get_client() as client:
            key = ArtifactFilter(key=ArtifactFilterKey(any_=["decision"]))
            return [str(item.data) for item in await client.read_artifacts(artifact_filter=key)]

    assert any("| size | **no** |" in page for page in asyncio.run(pages()))


def test_a_retraining_with_nothing_new_is_a_completed_run_that_says_so(
    smoke_run: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "store"
    shutil.copytree(smoke_run.store.root, root, copy_function=os.link, ignore=shutil.ignore_patterns("registry"))
    monkeypatch.setenv("GRISTMILL_STORE", str(root))
    config = part_of(RetrainConfig, smoke())
    early = retrain(config, return_state=True)
    assert early.is_failed() and "was ever promoted; run gristmill run full" in (early.message or "")
    promoted = evaluate_and_promote(part_of(EvaluateAndPromoteConfig, smoke()), return_state=True)
    assert promoted.name == "Promoted", promoted.message
    state = retrain(config, return_state=True)
    assert state.is_completed() and state.name == "Nothing new"
    assert (state.message or "").startswith("nothing new: 0 documents after deduplication")
