"""Places in Prefect's limit `gpu`: one is held while a stage uses a device, and a dead holder's is free at once."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, GlobalConcurrencyLimitUpdate
from prefect.settings import PREFECT_API_URL, temporary_settings

from pipelines.artifacts.errors import StageFailed
from tasks.places import GPU_LIMIT, place_across_hosts
from tests.artifacts.toys import SlowConfig

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("harness")]
ON_DEVICE = SlowConfig(device="toy:0")
HOLD = """
import sys, time
from tasks.places import place_across_hosts
from tests.artifacts.toys import SlowConfig
with place_across_hosts(SlowConfig(device="toy:0"), sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRISTMILL_SLOTS", str(tmp_path / "slots"))
    return tmp_path / "slots" / "places"


@pytest.fixture
def limit() -> Iterator[None]:
    async def make() -> None:
        async with get_client() as client:
            await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU_LIMIT, limit=1))

    async def remove() -> None:
        async with get_client() as client:
            await client.delete_global_concurrency_limit_by_name(GPU_LIMIT)

    asyncio.run(make())
    yield
    asyncio.run(remove())


def taken() -> int:
    async def asked() -> int:
        async with get_client() as client:
            return int((await client.read_global_concurrency_limit_by_name(GPU_LIMIT)).active_slots)

    return asyncio.run(asked())


def holder(name: str) -> subprocess.Popen[str]:
    """Return another process of this host that takes the place and holds it until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
    )  # fmt: skip


def test_a_stage_on_a_device_holds_a_place_and_one_on_the_cpu_none(limit: None, places: Path) -> None:
    with place_across_hosts(SlowConfig(), "slow"):
        assert taken() == 0 and not places.exists()
    with pytest.raises(ZeroDivisionError), place_across_hosts(ON_DEVICE, "slow"):
        assert taken() == 1 and len(list(places.iterdir())) == 1
        _ = 1 / 0
    assert taken() == 0 and not list(places.iterdir())


def test_without_the_limit_nothing_is_held(places: Path) -> None:
    with place_across_hosts(ON_DEVICE, "slow"):
        assert not places.exists()


def test_a_living_holder_is_waited_for_and_a_killed_one_is_not(limit: None, capfd: pytest.CaptureFixture[str]) -> None:
    first = holder("first")
    assert first.stdout and first.stdout.readline() == "held\n"
    second = holder("second")
    assert second.stdout and second.stderr
    assert "second: all places in Prefect's limit 'gpu' are taken; waiting" in second.stderr.readline()
    first.communicate("")
    assert second.stdout.readline() == "held\n" and taken() == 1
    second.kill()
    second.communicate()
    assert taken() == 1, "Prefect's lease runs for a minute"
    with place_across_hosts(ON_DEVICE, "third"):
        assert taken() == 1
    assert taken() == 0 and "waiting" not in capfd.readouterr().err


def test_a_place_that_no_server_takes_back_is_freed_by_who_wants_it_next(limit: None, places: Path) -> None:
    place = place_across_hosts(ON_DEVICE, "slow")
    place.__enter__()
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        place.__exit__(None, None, None)
    assert taken() == 1 and len(list(places.iterdir())) == 1
    with place_across_hosts(ON_DEVICE, "slow"):
        assert taken() == 1
    assert taken() == 0 and not list(places.iterdir())


def test_a_limit_of_none_is_one_line(limit: None) -> None:
    async def close() -> None:
        async with get_client() as client:
            await client.update_global_concurrency_limit(GPU_LIMIT, GlobalConcurrencyLimitUpdate(limit=0))

    asyncio.run(close())
    with pytest.raises(StageFailed) as refused, place_across_hosts(ON_DEVICE, "slow"):
        raise AssertionError
    told = str(refused.value)
    assert told.startswith("slow: no place in the limit 'gpu' (4") and "\n" not in told
