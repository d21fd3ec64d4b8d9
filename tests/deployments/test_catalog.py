"""The table of deployments: rows of real flows, the same in prefect.yaml, and choices that are checked."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.cli.deploy._models import PrefectYamlModel
from prefect.utilities.importtools import import_object

from deployments.catalog import NAMES, POOL, ROWS, Row, chosen
from deployments.deploy import STRATEGIES, as_deployment
from deployments.prefect_settings import CLIENT, WATCHED_TAG
from flows.stage import node_names
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.run import Planner
from pipelines.artifacts.store import Store
from pipelines.products import full
from pipelines.recipes import demo, smoke

FILE = Path(__file__).resolve().parents[2] / "deployments" / "prefect.yaml"
WRITTEN: dict[str, dict[str, Any]] = {item["name"]: item for item in yaml.safe_load(FILE.read_text())["deployments"]}


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_a_row_is_a_flow_of_its_name(row: Row) -> None:
    flow = import_object(row.entrypoint.replace(":", "."))
    assert isinstance(flow, Flow) and flow.name == row.name
    assert as_deployment(row, smoke()).parameters["config"]


def test_prefect_yaml_has_the_rows_of_the_table() -> None:
    PrefectYamlModel.model_validate(yaml.safe_load(FILE.read_text()))
    assert tuple(WRITTEN) == NAMES
    for row in ROWS:
        written, pool = WRITTEN[row.name], WRITTEN[row.name]["work_pool"]
        assert (written["entrypoint"], written["description"]) == (row.entrypoint, row.purpose)
        assert written["tags"] == [WATCHED_TAG]
        assert (pool["name"], pool["work_queue_name"]) == (POOL, row.queue)
        assert pool["job_variables"]["env"] == CLIENT
        assert [item["cron"] for item in written.get("schedules", [])] == ([row.cron] if row.cron else [])
        assert [item["expect"] for item in written.get("triggers", [])] == ([[row.event]] if row.event else [])
        limit = row.at_once and {"limit": row.at_once, "collision_strategy": STRATEGIES[row.overlap].value}
        assert written.get("concurrency_limit") == limit


def test_the_stages_of_the_form_are_those_of_a_run(tmp_path: Path) -> None:
    for recipe in (smoke(), demo()):
        planner = Planner(Store(tmp_path))
        full(recipe, planner)
        assert {row.node for row in planner.rows} <= set(node_names())


def test_a_schedule_and_an_overlap_are_changed_for_one() -> None:
    by_name = {row.name: row for row in chosen((), ["retrain=*/5 * * * *", "dedup-only=off"], ["retrain=queue"])}
    assert (by_name["retrain"].cron, by_name["retrain"].overlap) == ("*/5 * * * *", "queue")
    assert by_name["dedup-only"].cron is None and by_name["full"] == ROWS[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["retrian"],), "did you mean 'retrain'"),
        (((), ["retrain"]), "NAME=VALUE"),
        (((), ["nightly=* * * * *"]), "names no deployment"),
        (((), (), ["retrain=never"]), "retrain=queue or retrain=skip"),
    ],
)
def test_a_wrong_choice_is_one_line(arguments: tuple[list[str], ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        chosen(*arguments)


def test_a_wrong_cron_line_is_one_line() -> None:
    with pytest.raises(UserError, match="'every night' is no cron line"):
        as_deployment(chosen(["retrain"], ["retrain=every night"])[0], smoke())
