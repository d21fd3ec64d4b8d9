"""Pages to their main text in a child process, so that no page ends, hangs or bloats the work of the others.

What becomes of a page does not depend on the machine's load. A page is refused by its form first (`too_complex`);
a limit in CPU time, generous, stands behind that. A page at which the child dies is tried once more in a fresh child,
so that neither what came before nor an accident decides; it is dropped only if that child dies too.
"""

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from pipelines.artifacts.errors import StageFailed
from pipelines.corpus.extract import Extractor
from pipelines.corpus.extractor_child import ANSWER, COUNT, OUT_OF_MEMORY, REASON
from pipelines.corpus.readers.records import Dropped, Record, storable

COMMAND = (sys.executable, "-P", "-m", "pipelines.corpus.extractor_child")
KEPT_MEMORY = {f"MALLOC_{name}_": str(1 << 28) for name in ("TRIM_THRESHOLD", "MMAP_THRESHOLD")}
"""Makes glibc keep what a page took for the next one: two thirds of the page faults and 6% of the time less."""
BATCH_CHARS = 1 << 20
BATCH_PAGES = 256
FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT})
"""Signals that no page causes by itself: the system is out of memory, or someone ends the run."""


@dataclass(frozen=True, slots=True)
class Text:
    """The main text of a page, or the reason why it has none."""

    text: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PageLimits:
    """What one page may take."""

    cpu_seconds: float
    memory_bytes: int
    """Address space of the child, its libraries included."""


class ExtractorProcess:
    """A child process that extracts, started with the first page and again after each death."""

    def __init__(
        self, extractor: Extractor, limits: PageLimits, call: str = "pipelines.corpus.extract:reason_and_text"
    ) -> None:
        """Name the extractor's function by `module:name`; it takes UTF-8 and a mode and returns a reason and a text."""
        self.extractor, self.limits, self.call = extractor, limits, call
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child:
            self._child.kill()
            self._end()

    def results(self, items: Iterable[Record | Dropped]) -> Iterator[Record | Dropped]:
        """Yield the items in order, each page with its text in place of its HTML, or dropped with the reason."""
        batch: list[Record | Dropped] = []
        chars = 0
        for item in items:
            page = isinstance(item, Record) and item.is_html
            if not page and not batch:
                yield item
                continue
            batch.append(item)
            chars += len(item.content) if isinstance(item, Record) else 0
            if chars >= BATCH_CHARS or len(batch) >= BATCH_PAGES:
                yield from self._with_text(batch)
                batch, chars = [], 0
        yield from self._with_text(batch)

    def _with_text(self, batch: list[Record | Dropped]) -> Iterator[Record | Dropped]:
        pages = [item.content for item in batch if isinstance(item, Record) and item.is_html]
        texts = iter(self.texts(pages))
        for item in batch:
            if not isinstance(item, Record) or not item.is_html:
                yield item
                continue
            found = next(texts)
            yield (
                Dropped(item.offset, found.reason, url=item.url) if found.reason else replace(item, content=found.text)
            )

    def texts(self, pages: list[str]) -> list[Text]:
        """Return what each page came to, in order; raise StageFailed where the child is killed from outside twice."""
        bodies = [_utf8(page) for page in pages]
        found: list[Text] = []
        while len(found) < len(bodies):
            found += self._answers(bodies[len(found) :])
            if len(found) < len(bodies):
                found.append(self._second_try(bodies[len(found)], self._end()))
        return found

    def _second_try(self, body: bytes, status: int) -> Text:
        if status == -signal.SIGPROF:
            return Text(reason="extractor_cpu")
        again = self._answers([body])
        return again[0] if again else Text(reason=_reason(self._end()))

    def _answers(self, bodies: list[bytes]) -> list[Text]:
        """Return the answers that came before the child ended, if it did."""
        child = self._started()
        if child.stdin is None or child.stdout is None:
            raise StageFailed("extraction: the child process has no pipes")
        found: list[Text] = []
        try:
            child.stdin.write(COUNT.pack(len(bodies)) + struct.pack(f"<{len(bodies)}I", *map(len, bodies)))
            child.stdin.writelines(bodies)
            child.stdin.flush()
        except BrokenPipeError:
            return found
        while len(found) < len(bodies) and len(head := child.stdout.read(ANSWER.size)) == ANSWER.size:
            kind, length = ANSWER.unpack(head)
            answer = child.stdout.read(length)
            if len(answer) < length:
                break
            found.append(Text(reason=answer.decode()) if kind == REASON else Text(answer.decode()))
        return found

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child:
            return self._child
        arguments = (self.limits.cpu_seconds, self.limits.memory_bytes, os.getpid())
        self._child = child = subprocess.Popen(
            [*COMMAND, self.call, self.extractor, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # parsers print parts of pages there
            env=os.environ | KEPT_MEMORY | {"PYTHONPATH": os.pathsep.join(p or str(Path.cwd()) for p in sys.path)},
            bufsize=1 << 20,
        )
        if child.stdout is None or child.stdout.read(1) != b"\0":
            raise StageFailed(f"extraction: the child process for {self.call} ended at its start ({self._end()})")
        return child

    def _end(self) -> int:
        """Let the child go and return its exit status, negative for a signal."""
        child, self._child = self._child, None
        if child is None:
            return 0
        for pipe in (child.stdin, child.stdout):
            with suppress(BrokenPipeError):  # a page that did not reach it is still in the buffer
                if pipe:
                    pipe.close()
        return child.wait()


def _utf8(page: str) -> bytes:
    try:
        return page.encode()
    except UnicodeEncodeError:
        return storable(page).encode()


def _reason(status: int) -> str:
    if status == -signal.SIGPROF:
        return "extractor_cpu"
    if status == OUT_OF_MEMORY:
        return "extractor_memory"
    if -status in FROM_OUTSIDE:
        name = signal.Signals(-status).name
        raise StageFailed(f"extraction: {name} ended the child process twice; if memory was short, use fewer workers")
    return "extractor_crashed"
