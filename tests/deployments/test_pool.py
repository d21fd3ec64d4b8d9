"""The deployments of prefect.yaml at a real server, run by a worker of their pool as on a GPU host."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.catalog import POOL, ROWS
from tests.conftest import Finished
from tests.deployments.conftest import Server
from tests.deployments.servers import ROOT, Running, until

pytestmark = pytest.mark.slow
SOON = {"PREFECT_WORKER_QUERY_SECONDS": "1"}
"""A worker looks for runs every ten seconds where nothing else is said."""


def command(server: Server, *arguments: str) -> str:
    """Return what a command prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**clean, **server.environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_prefect_yaml_deploys_and_a_worker_of_its_pool_runs_it(
    prefect_server: Server, smoke_run: Finished, tmp_path: Path
) -> None:
    api = prefect_server.api
    told = command(prefect_server, "deployments.cli", "deploy", "stage", "--pool", POOL, "--recipe", "smoke")
    assert f"work pool {POOL!r} has no worker" in told and f"prefect worker start --pool {POOL}" in told
    command(prefect_server, "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
    for row in ROWS:
        made = api.deployment(row.name)
        assert (made["work_pool_name"], made["work_queue_name"]) == (POOL, row.queue)
        assert made["entrypoint"] == row.entrypoint and made["tags"] == ["gristmill"]
        assert [item["schedule"]["cron"] for item in made["schedules"]] == ([row.cron] if row.cron else [])
    events = [item["trigger"]["expect"] for item in api.ask("POST", "/automations/filter") if item["actions"]]
    assert [expect for expect in events if "gristmill.corpus.published" in expect] == [["gristmill.corpus.published"]]
    environment = prefect_server.environment | {"GRISTMILL_STORE": str(smoke_run.store.root)} | SOON
    worker = Running(["prefect", "worker", "start", "--pool", POOL], environment)
    try:
        worker.line("started!", 120)
        until(lambda: api.ask("POST", f"/work_pools/{POOL}/workers/filter"), 60, "the worker")
        assert "has no worker" not in command(
            prefect_server, "deployments.cli", "deploy", "stage", "--pool", POOL, "--recipe", "smoke"
        )
        run = api.ended(api.start("stage", node="ingest"))
        assert (run["state"]["type"], run["state"]["message"]) == ("COMPLETED", "2 stages")
    finally:
        worker.end()


def test_two_workers_on_one_store_compute_each_key_once(prefect_server: Server, tmp_path: Path) -> None:
    api, store = prefect_server.api, tmp_path / "store"
    command(prefect_server, "deployments.cli", "deploy", "stage", "--pool", "two", "--recipe", "smoke")
    environment = prefect_server.environment | {"GRISTMILL_STORE": str(store)} | SOON
    start = ["prefect", "worker", "start", "--pool", "two", "--limit", "1", "--name"]
    workers = {name: Running([*start, name], environment) for name in ("one", "other")}
    try:
        for worker in workers.values():
            worker.line("started!", 120)
        runs = [api.start("stage", node="ingest") for _ in workers]
        ended = [api.ended(run) for run in runs]
        assert [run["state"]["type"] for run in ended] == ["COMPLETED"] * 2
        assert {run["labels"]["prefect.worker.name"] for run in ended} == set(workers), "a run each, at the same time"
    finally:
        for worker in workers.values():
            worker.end()
    records = [json.loads(path.read_text())["nodes"] for path in (store / ".runs").glob("*.json")]
    assert len(records) == 2
    built = [node["node"] for nodes in records for node in nodes if not node["hit"]]
    assert sorted(built) == ["examples", "ingest"], "each by one of them"
    assert len({(node["node"], node["key"]) for nodes in records for node in nodes}) == 2
