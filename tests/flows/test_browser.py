"""The product through a real browser: runs started from the UI by clicks alone, and what the UI shows of them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Finished
from tests.flows.served import answers, free_port, wait_for

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright for Python is not installed")

from playwright.sync_api import Page, expect  # noqa: E402 - it may be absent

from tests.flows.browser import Visitor, chromium, visitor  # noqa: E402 - it imports Playwright

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no Chromium is installed here (apt-get install chromium)"),
    pytest.mark.filterwarnings("default"),
]
DOCS = Path(__file__).resolve().parents[2] / "docs"
START_SECONDS, RUN_SECONDS = 180, 400
"""Several times what they take on two idle cores."""


@dataclass(frozen=True)
class Product:
    """`gristmill server` and `gristmill deploy` at work."""

    url: str
    store: Path

    def ask(self, path: str, query: dict[str, Any] | None = None) -> Any:
        """Return what the API answers."""
        client = httpx.Client(base_url=f"{self.url}/api", timeout=60)
        if query is None:
            return client.get(path).raise_for_status().json()
        told = client.get("/csrf-token", params={"client": "tests"}).raise_for_status().json()
        headers = {"Prefect-Csrf-Token": told["token"], "Prefect-Csrf-Client": "tests"}
        return client.post(path, json=query, headers=headers).raise_for_status().json()

    def shown(self, page: Page) -> dict[str, Any]:
        """Return the run whose page is open."""
        found: dict[str, Any] = self.ask(f"/flow_runs/{page.url.split('/flow-run/')[1][:36]}")
        return found

    def runs(self, flow: str) -> int:
        """Return how many runs the flow has had."""
        return len(self.ask("/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}}))


@pytest.fixture(scope="module")
def product(smoke_run: Finished, prefect_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The product's own commands over the store of a finished smoke run, of which a changed value rebuilds a part."""
    home = shutil.copytree(prefect_home, tmp_path_factory.mktemp("browser") / "home")
    store = home / "store"
    shutil.copytree(smoke_run.store.root, store)
    url = f"http://127.0.0.1:{(port := free_port())}"
    environment = os.environ | {"PREFECT_HOME": str(home), "GRISTMILL_STORE": str(store)}
    environment |= {"PREFECT_API_URL": f"{url}/api", "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    environment |= {"GRISTMILL_SLOTS": str(home / "slots")}
    command = [sys.executable, "-m", "deployments.cli"]
    deployments = ["deploy", "full", "dedup-only", "--recipe", "smoke"]
    with (home / "log").open("wb") as log:
        started = [subprocess.Popen([*command, "server", "--port", str(port)], env=environment, stdout=log, stderr=log)]
        try:
            wait_for(lambda: answers(f"{url}/api/health"), START_SECONDS, "the server")
            started += [subprocess.Popen([*command, *deployments], env=environment, stdout=log, stderr=log)]
            wait_for(lambda: "serving" in (home / "log").read_text(), START_SECONDS, "the deployments")
            yield Product(url, store)
        finally:
            for process in reversed(started):
                process.terminate()
            for process in reversed(started):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(60)
                process.kill()


@pytest.fixture
def person(product: Product, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    with visitor(product.url, DOCS if request.config.getoption("--screenshots") else None) as found:
        yield found
    assert not found.foreign, "a page wanted something of another machine"
    assert not found.errors


def test_a_full_run_is_started_from_its_form_by_clicks_and_its_report_shows_plots(
    product: Product, person: Visitor
) -> None:
    page = person.page
    person.open_form("full")
    person.picture("ui-form")
    expect(page.get_by_text("Sequences in one optimizer step (1 to 1,048,576).").first).to_be_visible()
    windows = person.field("Quantize", "INT4", "Windows")
    expect(windows).to_have_value("8")
    windows.fill("4")
    person.submit()
    person.await_completed(RUN_SECONDS)
    run = product.shown(page)
    assert run["state_name"] == "Completed" and run["parameters"]["config"]["quantize"]["int4"]["windows"] == 4
    person.picture("ui-run", fresh=True)
    page.get_by_role("tab", name="Task Runs").click()
    expect(page.get_by_text("Cached", exact=True).first).to_be_visible()
    person.open_artifact("run-report")
    expect(page.get_by_role("heading", name="Quantization")).to_be_visible()
    person.see_a_plot()
    person.picture("ui-report", at=page.locator("img[src^='data:image/png']").first)


def test_a_dedup_only_run_is_started_from_its_form_by_clicks_and_reports(product: Product, person: Visitor) -> None:
    person.open_form("dedup-only")
    threshold = person.field("Dedup", "Threshold")
    expect(threshold).to_have_value("0.8")
    threshold.fill("0.85")
    person.submit()
    person.await_completed(RUN_SECONDS)
    run = product.shown(person.page)
    assert run["state_name"] == "Completed" and run["parameters"]["config"]["dedup"]["threshold"] == 0.85
    person.open_artifact("run-report")
    person.see_a_plot()
    person.page.locator("a[href*='lineage-dedup']").click()
    person.page.locator("a[href*='/artifacts/artifact/']").first.click()
    expect(person.page.get_by_text("ingest.documents").first).to_be_visible()


def test_a_wrong_value_is_refused_in_the_form_before_anything_starts(product: Product, person: Visitor) -> None:
    before = product.runs("dedup-only")
    person.open_form("dedup-only")
    submit = person.page.get_by_role("button", name="Submit", exact=True)
    threshold = person.field("Dedup", "Threshold")
    threshold.fill("1.5")
    submit.click()
    assert threshold.evaluate("box => box.validationMessage") == "Value must be less than or equal to 1."
    person.picture("ui-refused")
    threshold.fill("0.8")
    person.field("Dedup", "Candidate recall").fill("1")  # below 1: a bound that only the server checks
    submit.click()
    expect(person.page.get_by_text("1 is greater than or equal to the maximum of 1")).to_be_visible()
    assert product.runs("dedup-only") == before
