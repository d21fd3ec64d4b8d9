"""`gristmill deploy` on a real server: schedules and events start what they should."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from deployments.catalog import CORPUS_PUBLISHED, NAMES, chosen
from pipelines.config import DedupOnlyConfig, PrepareCorpusConfig, RetrainConfig
from pipelines.products import part_of
from pipelines.recipes import smoke
from pipelines.settings import with_settings
from tests.conftest import Finished
from tests.deployments.conftest import Server
from tests.deployments.servers import Api, Running, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(
    prefect_server: Server, smoke_run: Finished, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """What a command needs to reach the server, with a copy of the store of a finished run."""
    store = shutil.copytree(smoke_run.store.root, tmp_path_factory.mktemp("deployed") / "store")
    return prefect_server.environment | {"GRISTMILL_STORE": str(store), "PREFECT_RUNNER_POLL_FREQUENCY": "1"}


@pytest.fixture(scope="module")
def served(environment: dict[str, str]) -> Iterator[Running]:
    """All deployments served, the nightly one every minute; at the end SIGTERM pauses their schedules."""
    arguments = ["deployments.cli", "deploy", "--recipe", "smoke", "--schedule", "dedup-only=* * * * *"]
    running = Running(arguments, environment)
    try:
        running.line("^serving .*dedup-only", 120)
        yield running
    finally:
        status = running.end()
    assert status == 0


def of_dedup_only() -> dict[str, Any]:
    return {"config": part_of(DedupOnlyConfig, smoke()).model_dump(mode="json")}


def test_every_row_is_a_deployment_of_its_flow(prefect_server: Server, served: Running) -> None:
    for row in chosen(NAMES):
        made = prefect_server.api.deployment(row.name)
        assert made["entrypoint"] == row.entrypoint.replace(":", ".") and made["description"] == row.purpose
        assert made["parameters"]["config"] == part_of(row.config, smoke()).model_dump(mode="json")
        assert made["tags"] == ["gristmill"] and not made["paused"]
        assert (made["global_concurrency_limit"] or {}).get("limit") == row.at_once


def test_a_single_stage_runs_by_name(prefect_server: Server, served: Running) -> None:
    run = prefect_server.api.ended(prefect_server.api.start("stage", node="dedup"))
    assert (run["state"]["type"], run["state"]["message"]) == ("COMPLETED", "5 stages")


def test_parameters_of_an_older_config_fail_the_run_with_the_field(prefect_server: Server, served: Running) -> None:
    api, older = prefect_server.api, of_dedup_only()
    older["config"]["dedup"]["bands"] = 20
    made = api.deployment("prepare-corpus")  # the server has the schema of the time when it was deployed
    api.ask("PATCH", f"/deployments/{made['id']}", parameters=older, enforce_parameter_schema=False)
    run = api.ended(api.start("prepare-corpus"))
    api.ask("PATCH", f"/deployments/{made['id']}", parameters=made["parameters"], enforce_parameter_schema=True)
    assert run["state"]["type"] == "FAILED" and run["state"]["name"] == "UserError"
    message = run["state"]["message"]
    assert "config.dedup.bands" in message and "gristmill deploy" in message and "\n" not in message
    assert not api.ask("POST", "/task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}}), "nothing was started"


def test_a_secret_in_a_run_of_the_ui_fails_it_with_the_field(prefect_server: Server, served: Running) -> None:
    secret, config = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH", of_dedup_only()["config"]
    config["report"]["title"] = secret
    run = prefect_server.api.ended(prefect_server.api.start("dedup-only", config=config))
    message = run["state"]["message"]
    assert run["state"]["type"] == "FAILED" and "config.report.title" in message and "HF_TOKEN" in message
    assert secret not in message and "\n" not in message


def test_a_run_beside_another_is_skipped_or_queued_as_its_row_says(prefect_server: Server, served: Running) -> None:
    api = prefect_server.api
    skipped = {api.ended(run)["state"]["type"] for run in [api.start("dedup-only") for _ in range(3)]}
    assert skipped == {"COMPLETED", "CANCELLED"}
    queued = [api.ended(run) for run in [api.start("full") for _ in range(2)]]
    assert [run["state"]["type"] for run in queued] == ["COMPLETED"] * 2
    first, second = sorted(queued, key=lambda run: str(run["start_time"]))
    assert first["end_time"] <= second["start_time"]


def by_event(api: Api) -> list[dict[str, Any]]:
    return [run for run in api.runs("retrain") if not run["auto_scheduled"]]


def test_a_new_corpus_starts_a_retraining_with_the_recipe(prefect_server: Server, served: Running) -> None:
    api = prefect_server.api
    config = part_of(PrepareCorpusConfig, with_settings(smoke(), {"filter.gopher.min_words": 40}))
    assert not by_event(api)
    built = api.ended(api.start("prepare-corpus", config=config.model_dump(mode="json")), 180)
    assert built["state"]["type"] == "COMPLETED", built["state"]["message"]
    run = until(lambda: by_event(api), 60, "the run of the event")[0]
    assert run["deployment_id"] == api.deployment("retrain")["id"]
    assert run["created_by"]["type"] == "AUTOMATION" and CORPUS_PUBLISHED in run["created_by"]["display_value"]
    assert run["parameters"]["config"] == part_of(RetrainConfig, smoke()).model_dump(mode="json")
    assert "promoted" in api.ended(run["id"])["state"]["message"], "nothing was ever promoted in this store"


def test_a_schedule_starts_its_deployment_with_the_recipe(prefect_server: Server, served: Running) -> None:
    api = prefect_server.api

    def ran() -> list[dict[str, Any]]:
        of_schedule = {"tags": {"all_": ["auto-scheduled"]}, "state": {"type": {"any_": ["COMPLETED", "FAILED"]}}}
        return api.runs("dedup-only", flow_runs=of_schedule)

    run = until(ran, 150, "the run of the schedule")[0]
    assert run["deployment_id"] == api.deployment("dedup-only")["id"]
    assert run["state"]["type"] == "COMPLETED" and run["state"]["message"] == "4 stages"
    assert run["parameters"] == of_dedup_only()
    assert run["expected_start_time"].endswith(":00Z") or ":00+" in run["expected_start_time"]
