"""What a run shows in Prefect's UI beside its log: bars, lineage, the report and a link to it."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from queue import SimpleQueue
from threading import Thread
from typing import cast
from uuid import UUID

from httpx import HTTPError
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException

from pipelines.artifacts.manifest import Manifest
from pipelines.artifacts.progress import share_of
from pipelines.artifacts.run import NodeResult
from pipelines.artifacts.stage import StageConfig
from pipelines.reporting.markdown import artifact_key, lineage_rows, report_file, run_markdown

LAST_WORD_SECONDS = 5.0
"""How long a task waits at its end for the server to take the last state of its bar."""
STOPPED_SECONDS = 0.5
"""The same for a task that is cancelled, stopped or timed out, and has six seconds to be gone."""
logger = logging.getLogger(__name__)


class ProgressBar:
    """A progress artifact of the running task, made at the first line that says how much of the work is done.

    A thread of its own talks to the server, so that work never waits for one that is slow or gone; of the lines that
    came meanwhile it sends the newest.
    """

    def __init__(self, node: str) -> None:
        self.key = artifact_key("progress", node)
        self.news: SimpleQueue[tuple[float, str] | None] = SimpleQueue()
        self.thread: Thread | None = None

    def move(self, line: str) -> None:
        """Show what a line of progress says."""
        share = share_of(line)
        if share is None:
            return
        if self.thread is None:
            self.thread = Thread(target=copy_context().run, args=(self._send,), name=self.key, daemon=True)
            self.thread.start()
        self.news.put((100 * share, line))

    def end(self, line: str | None, wait_seconds: float = LAST_WORD_SECONDS) -> None:
        """Fill the bar and show this line; None leaves the bar where the work broke off."""
        if self.thread is None:
            return
        if line is not None:
            self.news.put((100.0, line))
        self.news.put(None)
        self.thread.join(wait_seconds)

    def _send(self) -> None:
        artifact: UUID | None = None
        try:
            for progress, line in self._newest():
                if artifact is None:
                    artifact = cast(UUID, create_progress_artifact(progress, key=self.key, description=line))
                else:
                    update_progress_artifact(artifact, progress, description=line)
        except (HTTPError, PrefectException) as error:
            logger.warning("%s is not shown any more: %s", self.key, error)

    def _newest(self) -> Iterator[tuple[float, str]]:
        while (news := self.news.get()) is not None:
            while not self.news.empty():
                later = self.news.get()
                if later is None:
                    yield news
                    return
                news = later
            yield news


current_bar: ContextVar[ProgressBar | None] = ContextVar("current_bar", default=None)
"""The bar of the running task."""


@contextmanager
def progress_bar(node: str) -> Iterator[None]:
    """Give the running task a bar, filled at the end where the work did not break off."""
    bar = ProgressBar(node)
    token = current_bar.set(bar)
    try:
        yield
    except BaseException as error:
        bar.end(None, LAST_WORD_SECONDS if isinstance(error, Exception) else STOPPED_SECONDS)
        raise
    finally:
        current_bar.reset(token)
    bar.end(f"{node}: done")


def move_bar(line: str) -> None:
    """Move the running task's bar to where a line of progress says that the work is."""
    if bar := current_bar.get():
        bar.move(line)


def show_lineage(node: str, manifest: Manifest) -> None:
    """Attach to the running task what its artifact was made of."""
    rows = lineage_rows(node, manifest)
    if rows:
        create_table_artifact(rows, key=artifact_key("lineage", node), description=f"{manifest.stage}/{manifest.key}")


def show_run(product: str, config: StageConfig, results: Sequence[NodeResult], name: str) -> None:
    """Attach to the running flow its report, the lineage of all its artifacts, and a link to the whole report."""
    create_markdown_artifact(run_markdown(product, results, config), key="run-report", description=name)
    nodes = {(result.manifest.stage, result.manifest.key): result.node for result in results}
    rows = [row for result in results for row in lineage_rows(result.node, result.manifest, nodes)]
    create_table_artifact(rows, key="lineage", description=f"What each artifact of {name} was made of")
    if page := report_file(results):
        create_link_artifact(page.resolve().as_uri(), key="report", link_text="The whole report", description=name)
