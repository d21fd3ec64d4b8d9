"""Flows against a real Prefect server: a hit shows as Cached, a failed stage by its name, a form per config."""

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, tags, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact, State
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_LOGGING_TO_API_BATCH_INTERVAL

from deployments.flow_run import run_flow
from flows.data import dedup_only, prepare_corpus
from flows.full import full
from flows.release import evaluate_and_promote
from flows.retrain import retrain
from pipelines.artifacts import registry
from pipelines.artifacts.errors import EmptyOutput, StageFailed
from pipelines.artifacts.progress import describe
from pipelines.artifacts.stage import Stage, StageConfig
from pipelines.artifacts.store import Store
from pipelines.config import DedupOnlyConfig, EvaluateAndPromoteConfig, FullConfig, PrepareCorpusConfig, RetrainConfig
from pipelines.products import part_of
from pipelines.recipes import smoke
from pipelines.settings import with_settings
from tasks.bridge import PrefectRun, as_task
from tasks.showing import move_bar, progress_bar
from tests.artifacts.toys import BREAK, FLAKY, TALK, BreakConfig, FlakyConfig, TalkConfig
from tests.conftest import Finished

pytestmark = [
    pytest.mark.filterwarnings("default"),  # Prefect's own shutdown is not warning-free
    pytest.mark.usefixtures("harness"),
]


@pytest.fixture
def in_smoke_store(smoke_run: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_STORE", str(smoke_run.store.root))


def test_a_full_run_of_finished_stages_shows_each_as_cached_and_attaches_the_report(in_smoke_store: None) -> None:
    with tags("watched"):
        state = full(smoke(), return_state=True)
    assert state.is_completed(), state.message
    results = state.result()
    assert all(result.hit for result in results)

    async def seen() -> tuple[set[str], list[str], list[str]]:
        own = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        async with get_client() as client:
            for _ in range(100):  # task states reach the server as events, a moment after the flow has ended
                task_runs = await client.read_task_runs(flow_run_filter=own)
                names = [run.state_name or "" for run in task_runs]
                if len(names) == len(results) and not {"Pending", "Running"} & set(names):
                    break
                await asyncio.sleep(0.2)
            key = ArtifactFilter(key=ArtifactFilterKey(any_=["run-report"]))
            reports = [str(item.data) for item in await client.read_artifacts(artifact_filter=key, flow_run_filter=own)]
            return set(names), [tag for run in task_runs for tag in run.tags], reports

    names, task_tags, reports = asyncio.run(seen())
    assert names == {"Cached"}
    assert not task_tags, "each tag of a task costs it a question to the server"
    assert "data:image/png;base64," in reports[-1] and "| pretrain |" in reports[-1]


def test_a_stage_that_fails_shows_its_error_by_name(in_smoke_store: None) -> None:
    config = part_of(PrepareCorpusConfig, with_settings(smoke(), {"filter.gopher.min_words": 90_000}))
    state = prepare_corpus(config, return_state=True)
    assert state.name == "EmptyOutput" and state.is_failed()
    assert "no document is left" in (state.message or "")


def test_the_command_line_is_given_what_a_run_failed_with(in_smoke_store: None) -> None:
    config = part_of(PrepareCorpusConfig, with_settings(smoke(), {"filter.gopher.min_words": 90_000}))
    with pytest.raises(EmptyOutput, match=r"^filter: no document is left"):
        run_flow("prepare-corpus", config)


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


def test_a_wrong_value_is_refused_by_the_api_before_anything_starts(in_smoke_store: None) -> None:
    async def refused() -> tuple[str, int]:
        async with get_client() as client:
            deployment = await dedup_only.ato_deployment("form", enforce_parameter_schema=True)
            identity = await deployment.aapply()
            wrong = part_of(DedupOnlyConfig, smoke()).model_dump(mode="json")
            wrong["dedup"]["threshold"] = 1.5
            with pytest.raises(PrefectHTTPStatusError) as error:
                await client.create_flow_run_from_deployment(identity, parameters={"config": wrong})
            only = DeploymentFilter(id=DeploymentFilterId(any_=[identity]))
            return error.value.response.text, len(await client.read_flow_runs(deployment_filter=only))

    told, runs = asyncio.run(refused())
    assert "1.5 is greater than the maximum of 1" in told and runs == 0


def test_what_no_schema_can_say_is_refused_by_the_first_line_of_the_flow_in_one_line(in_smoke_store: None) -> None:
    config = part_of(DedupOnlyConfig, smoke()).model_dump(mode="json")
    config["examples"]["source"] = {"kind": "jsonl"}
    state = dedup_only(config, return_state=True)
    assert state.is_failed() and state.name == "UserError"
    assert "ingest.source 'docs' is made of the objects" in str(state.message) and "\n" not in str(state.message)


def test_a_bar_moves_with_the_lines_of_a_long_stage_and_stays_where_the_work_broke_off(in_smoke_store: None) -> None:
    lines = [
        describe(
            "pretrain",
            done,
            60,
            "steps",
            {"loss": 5 - done / 30},
            rate=2.0,
        )
        for done in (15, 30)
    ]

    @task
    def long_stage(breaks: bool) -> None:
        with progress_bar("evaluate.base" if breaks else "pretrain"):
            for line in lines:
                move_bar(line)
                move_bar("a line that says nothing of how much is done")
            if breaks:
                raise StageFailed("broken")

    @flow
    def two() -> None:
        long_stage(False)
        long_stage(True, return_state=True)

    two(return_state=True)
    done, broken = artifact("progress-pretrain"), artifact("progress-evaluate-base")
    assert (done.type, done.data, done.description) == ("progress", 100.0, "pretrain: done")
    assert (broken.data, broken.description) == (50.0, "pretrain: 30/60 steps (50%), 2 steps/s, 0:15 left loss 4")
    assert done.task_run_id and done.flow_run_id


def test_the_run_s_lineage_is_a_table_and_the_whole_report_a_link(in_smoke_store: None, smoke_run: Finished) -> None:
    dedup_only(part_of(DedupOnlyConfig, smoke()))
    rows = json.loads(artifact("lineage").data)
    dedup = next(row for row in rows if row["node"] == "dedup")
    manifest = smoke_run.results["ingest"].manifest
    assert dedup["from"] == "ingest.documents" and dedup["key"] == manifest.key[:12]
    assert manifest.outputs["documents"].startswith(dedup["digest"])
    assert any(row["from"] == "outside the store" for row in rows if row["node"] == "examples")
    assert artifact("report").data.startswith("[The whole report](file:///")


def artifact(key: str) -> Artifact:
    """Return the newest artifact of this key."""

    async def read() -> Artifact:
        async with get_client() as client:
            wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
            return (await client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC))[0]

    return asyncio.run(read())


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
