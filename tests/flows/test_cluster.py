"""Independent stages on a Dask cluster: they are built side by side, and what they come to is what a sequence does."""

import asyncio
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State

from flows.product import TASK_RUNNER
from flows.release import release
from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.artifacts.run import LocalRun, NodeResult
from pipelines.artifacts.store import Store
from pipelines.config import ReleaseConfig
from pipelines.products import part_of
from pipelines.products import release as wire_release
from pipelines.recipes import smoke
from pipelines.settings import with_settings
from tasks.cluster import cluster_at
from tests.artifacts.toys import MeetConfig, SlowConfig, SourceConfig
from tests.conftest import Finished
from tests.flows.toy_flow import PairConfig, pair, side_by_side

pytest.importorskip("prefect_dask", reason="the extra `dask` is not installed")
pytestmark = pytest.mark.filterwarnings("default")  # Prefect's own shutdown is not warning-free


@pytest.fixture
def on_dask(harness: None, store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("GRISTMILL_STORE", str(store.root))
    monkeypatch.setenv(TASK_RUNNER, "dask:3")
    return store


@pytest.fixture
def texts(tmp_path: Path) -> SourceConfig:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("grist")
    return SourceConfig(path=folder)


def outputs(results: list[NodeResult]) -> dict[str, tuple[str, dict[str, str]]]:
    return {result.node: (result.manifest.key, result.manifest.outputs) for result in results}


def listeners() -> set[str]:
    """Return the addresses at which this process can be reached."""
    import psutil

    return {item.laddr.ip for item in psutil.Process().net_connections() if item.status == "LISTEN"}


def test_stages_that_do_not_wait_for_each_other_are_built_at_once_and_equal_those_of_a_sequence(
    on_dask: Store, texts: SourceConfig, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    config = PairConfig(
        source=texts, left=MeetConfig(name="left", place=place), right=MeetConfig(name="right", place=place)
    )
    state: State[Any] = side_by_side(config, return_state=True)
    assert state.is_completed(), state.message
    results = state.result()

    alone = LocalRun(Store(tmp_path / "alone"))
    alone.store.prepare()
    pair(PairConfig(source=texts), alone)
    assert outputs(results) == outputs(alone.results)
    assert [result.node for result in results] == [result.node for result in alone.results], "in the wiring's order"
    again = side_by_side(config, return_state=True).result()
    assert all(result.hit for result in again) and outputs(again) == outputs(results)
    names = asyncio.run(task_states(state))
    assert names == {
        "source": "Completed",
        "left": "Completed",
        "right": "Completed",
        "slow": "Completed",
        "join": "Completed",
    }


async def task_states(state: State[Any]) -> dict[str, str | None]:
    """Return the state of each task of the flow's run, once all have one that stays."""
    run = state.state_details.flow_run_id
    async with get_client() as client:
        for _ in range(100):  # they reach the server as events
            runs = [item for item in await client.read_task_runs() if item.flow_run_id == run]
            if len(runs) == 5 and all(item.state and item.state.is_final() for item in runs):
                break
            await asyncio.sleep(0.2)
    return {item.name: item.state_name for item in runs}


def test_of_a_failed_stage_s_neighbours_nothing_is_lost_and_the_run_fails_with_its_line(
    on_dask: Store, texts: SourceConfig, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    left, right = (MeetConfig(name=name, place=place, fails=name == "left") for name in ("left", "right"))
    config = PairConfig(source=texts, left=left, right=right, slow=SlowConfig(pause_seconds=0.1))
    state: State[Any] = side_by_side(config, return_state=True)
    assert state.is_failed() and state.name == "StageFailed" and state.message == "left: failed"
    built = {manifest.stage for manifest in on_dask.manifests()}
    assert built == {"source", "meet", "slow"}, "join needs what failed"


def test_a_damaged_artifact_is_rebuilt_on_the_cluster_too(on_dask: Store, texts: SourceConfig) -> None:
    config = PairConfig(source=texts)
    first = side_by_side(config)
    source = next(result for result in first if result.node == "source")
    (source.path / "text" / "all.txt").write_text("chaff")
    other = PairConfig(source=texts, left=MeetConfig(name="another"))
    state: State[Any] = side_by_side(other, return_state=True)
    assert state.is_completed(), state.message
    assert (source.path / "text" / "all.txt").read_text() == "grist"
    assert not next(result for result in state.result() if result.node == "left").hit


@pytest.mark.slow
def test_a_release_s_own_independent_stages_equal_those_of_a_sequence(
    on_dask: Store, smoke_run: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = part_of(ReleaseConfig, with_settings(smoke(), {"quantize.int8.seed": 7, "quantize.int4.seed": 7}))
    roots = [tmp_path / name for name in ("cluster", "sequence")]
    for root in roots:
        shutil.copytree(smoke_run.store.root, root, copy_function=os.link)
    monkeypatch.setenv("GRISTMILL_STORE", str(roots[0]))
    state: State[Any] = release(changed, return_state=True)
    assert state.is_completed(), state.message
    alone = LocalRun(Store(roots[1]))
    wire_release(changed, alone)
    assert {result.node for result in state.result() if not result.hit} >= {"quantize.int8", "quantize.int4"}
    assert outputs(state.result()) == outputs(alone.results)


def test_a_cluster_of_a_run_s_own_cannot_be_reached_from_another_host() -> None:
    before = listeners()
    with cluster_at("dask") as runner:
        assert runner.client.submit(lambda: 1, pure=False).result() == 1
        assert listeners() - before <= {"127.0.0.1"}
        assert runner.client.scheduler.address.startswith("inproc://")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 8787))  # where Dask shows its pages


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("ray", "'ray' is none; write sequential, dask"),
        ("dask:0", "'dask:0' is none"),
        ("https://host:8786", "is none"),
        ("tcp://gpu-1:8786", "whoever reaches a scheduler without TLS runs code"),
    ],
)
def test_what_is_no_task_runner_is_refused_in_one_line(named: str, told: str) -> None:
    with pytest.raises(UserError, match="task runner: ") as error:
        cluster_at(named)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_an_error_and_a_store_cross_to_a_worker(store: Store) -> None:
    from distributed.protocol import deserialize, serialize

    lost = EmptyOutput("filter", {"in": 2})
    found = deserialize(*serialize(lost))
    assert type(found) is EmptyOutput and str(found) == str(lost)
    assert deserialize(*serialize(store)).root == store.root.resolve()
