"""A person at Prefect's UI: a headless Chromium that clicks, and may reach nothing but this machine."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Locator, Page, Route, TimeoutError, expect, sync_playwright

LOCAL = re.compile(r"^(data:|blob:|https?://(127\.0\.0\.1|localhost|\[::1\])[:/])")
SLOW_MS = 60_000
"""A form of some four hundred fields takes five seconds to draw on two idle cores."""


def chromium() -> str | None:
    """Return the path of the machine's Chromium; none is ever downloaded."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Visitor:
    """A page of the UI, with what went wrong on it and whom it tried to reach beside this machine."""

    page: Page
    url: str
    pictures: Path | None = None
    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open_form(self, deployment: str) -> None:
        """Go to the deployment's form by the menu."""
        self.page.goto(self.url)
        self.page.get_by_role("link", name="Deployments", exact=True).click()
        self.page.get_by_role("link", name=deployment, exact=True).first.click()
        self.page.get_by_role("button", name="Run", exact=True).click()
        self.page.get_by_text("Custom run").click()
        self.page.get_by_text("Parameters", exact=True).wait_for()
        self.field("Report", "Title").wait_for()
        self.page.wait_for_load_state("networkidle")

    def field(self, *titles: str) -> Locator:
        """Return the input of a field by the titles of the sections that it stands in and its own."""
        *sections, last = (f"xpath=.//label[normalize-space()='{title} (Optional)']" for title in titles)
        scope = self.page.locator("body")
        for section in sections:
            scope = scope.locator(section).first.locator("xpath=ancestor::div[contains(@class, 'group')][1]")
        name = scope.locator(last).first.get_attribute("for")
        return self.page.locator(f"[id='{name}']")

    def submit(self) -> None:
        """Start the run and go to its page; a click that a busy page lost is made again: the form still stands then."""
        button = self.page.get_by_role("button", name="Submit", exact=True)
        started = self.page.get_by_role("link", name="View run")
        for _ in range(3):
            button.click()
            with suppress(TimeoutError):
                started.wait_for(timeout=SLOW_MS / 3)
                break
        started.click()
        self.page.get_by_role("tab", name="Job Variables").wait_for()  # the page before lists other runs

    def await_completed(self, seconds: float) -> None:
        """Return when the page says that the run has completed."""
        expect(self.page.get_by_text("Completed", exact=True).first).to_be_visible(timeout=1000 * seconds)

    def open_artifact(self, key: str) -> None:
        """Go from the run's page to what its artifact shows."""
        self.page.get_by_role("tab", name="Artifacts").click()
        self.page.get_by_role("link", name=re.compile(rf"\b{key}\b")).first.click()
        self.page.locator("a[href*='/artifacts/artifact/']").first.click()

    def see_a_plot(self) -> None:
        """Return when the page shows a picture that came with its text."""
        drawn = "image => image.src.startsWith('data:image/png') && image.naturalWidth > 100"
        self.page.wait_for_function(f"() => [...document.images].some({drawn})")

    def picture(self, name: str, *, fresh: bool = False, at: Locator | None = None) -> None:
        """Keep what is seen for the docs, where that was asked for: of the page loaded anew, or at a place of it."""
        if self.pictures:
            if fresh:
                self.page.reload()
            self.page.wait_for_timeout(4000)  # graphs move, panels slide in, lists are read anew
            if at:
                at.scroll_into_view_if_needed()
            self.page.screenshot(path=self.pictures / f"{name}.png")


@contextmanager
def visitor(url: str, pictures: Path | None = None) -> Iterator[Visitor]:
    """Yield a visitor of the UI at `url`; requests to other machines are stopped and noted."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(SLOW_MS)
        found = Visitor(page, url, pictures)

        def answer(route: Route) -> None:
            if LOCAL.match(route.request.url):
                route.continue_()
            else:
                found.foreign.append(route.request.url)
                route.abort()

        page.route("**/*", answer)
        page.on("pageerror", lambda error: found.errors.append(str(error)))
        try:
            yield found
        finally:
            browser.close()
