"""What all tests share: the public data, and a store."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.artifacts.run import LocalRun, NodeResult, record_run, until_sound
from pipelines.artifacts.store import Store
from pipelines.products import full
from pipelines.recipes import smoke

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data beside the checkout; a test that needs it skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"the public test data is not at {SHARED}")
    return SHARED


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    opened = Store(tmp_path / "store")
    opened.prepare()
    return opened


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-golden", action="store_true", help="write the golden files from this run")
    parser.addoption("--screenshots", action="store_true", help="write docs/ui-*.png from the browser tests")


@dataclass(frozen=True)
class Finished:
    """A finished run of a recipe and the store that it filled."""

    store: Store
    results: dict[str, NodeResult]


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The smoke recipe, run once a session in this process: every stage, on real text, in under two minutes."""
    store = Store(tmp_path_factory.mktemp("smoke") / "store")
    store.prepare()
    run = LocalRun(store)
    until_sound(lambda: full(smoke(), run), run)
    record_run(store, "full", run.results)
    return Finished(store, {result.node: result for result in run.results})
