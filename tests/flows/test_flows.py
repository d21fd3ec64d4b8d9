"""Flows against a real Prefect server: a hit shows as Cached, a failed stage by its name, a form per config."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_LOGGING_TO_API_BATCH_INTERVAL
from prefect.testing.utilities import prefect_test_harness

from flows.data import dedup_only, prepare_corpus
from flows.full import full
from pipelines.artifacts.stage import Stage, StageConfig
from pipelines.artifacts.store import Store
from pipelines.config import DedupOnlyConfig, FullConfig, PrepareCorpusConfig
from pipelines.products import part_of
from pipelines.recipes import smoke
from pipelines.settings import with_settings
from tasks.bridge import PrefectRun, as_task
from tests.artifacts.toys import BREAK, FLAKY, TALK, BreakConfig, FlakyConfig, TalkConfig
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


def tried(
    stage: Stage, config: StageConfig, store: Store
) -> tuple[State[Any], list[tuple[str | None, int]], list[str]]:
    """Run a stage as a flow; return its state, each task run's state and count of tries, and the lines of the log."""
    one = as_task(stage).with_options(retry_delay_seconds=0.1)

    @flow(name="toy", persist_result=False)
    def toy() -> Any:
        with PrefectRun(store, tasks={stage.name: one}) as run:
            return run(stage, config)

    state = toy(return_state=True)
    run = state.state_details.flow_run_id
    assert run is not None

    async def seen() -> tuple[list[tuple[str | None, int]], list[str]]:
        async with get_client() as client:
            runs: list[Any] = []
            for _ in range(100):
                runs = [item for item in await client.read_task_runs() if item.flow_run_id == run]
                if runs and runs[0].state and runs[0].state.is_final():
                    break
                await asyncio.sleep(0.2)
            await asyncio.sleep(PREFECT_LOGGING_TO_API_BATCH_INTERVAL.value() + 1)
            logs = await client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])))
            return [(item.state_name, item.run_count) for item in runs], [item.message for item in logs]

    return state, *asyncio.run(seen())


def test_a_fault_of_the_network_is_tried_again(store: Store) -> None:
    state, runs, _ = tried(FLAKY, FlakyConfig(fails=2), store)
    assert state.is_completed(), state.message
    assert runs == [("Completed", 3)]


def test_a_fault_that_stays_ends_the_run_after_so_many_tries(store: Store) -> None:
    state, runs, _ = tried(FLAKY, FlakyConfig(fails=9), store)
    assert state.is_failed()
    assert runs == [("TemporaryFault", 3)]


@pytest.mark.parametrize("name", ["UserError", "Killed"])
def test_a_mistake_and_a_killed_process_are_not_tried_again(name: str, store: Store) -> None:
    state, runs, lines = tried(BREAK, BreakConfig(how=name), store)
    assert state.is_failed()
    assert runs == [(name, 1)]
    if name == "Killed":
        assert "break: its process was killed (SIGKILL), perhaps for lack of memory" in "".join(lines)


def test_what_libraries_say_is_in_the_log_of_the_run_without_secrets(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_TOKEN", "grist-and-chaff")
    state, _, lines = tried(TALK, TalkConfig(), store)
    assert state.is_completed(), state.message
    for line in (
        "toy: info of the standard log", "toy: warning of the standard log", "a printed line", "token ***",
        "tests.artifacts.toys: a line of loguru", "see https://***@mirror.example/x",
    ):  # fmt: skip
        assert line in lines
    assert any("UserWarning: a warning" in line for line in lines)
    assert "grist-and-chaff" not in "".join(lines)


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
