"""The stage host's own side: it builds the stages it is told of, one after the other, and tells what happens."""

import logging
import os
import sys
import threading
import time
from contextlib import suppress
from io import TextIOWrapper
from itertools import count

from pipelines.artifacts.build import build
from pipelines.artifacts.errors import DamagedArtifact, StageFailed, UserError
from pipelines.artifacts.job import Job, error_fields, message_line, read_job
from pipelines.artifacts.progress import line_sink

SHOW_SECONDS = 0.2
"""Between two messages of one piece of work; a terminal's bar moves no faster."""


class Channel:
    """The pipe on which messages leave, a line each."""

    def __init__(self, handle: int) -> None:
        self._handle, self._lock = handle, threading.Lock()
        os.set_inheritable(handle, False)

    def tell(self, kind: str, *fields: object) -> None:
        """Send a message."""
        line = memoryview(message_line(kind, *fields))
        with self._lock, suppress(BrokenPipeError):  # the run is gone; what is being saved is not given up for that
            while line:
                line = line[os.write(self._handle, line) :]


class Outlet(TextIOWrapper):
    """Standard output that nobody reads any more is no reason to fail."""

    def write(self, text: str, /) -> int:
        """Write the text, or leave it."""
        with suppress(BrokenPipeError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Send what is held back."""
        with suppress(BrokenPipeError):
            super().flush()


class RelaySink:
    """Progress as messages to whoever started the host."""

    numbers = count()

    def __init__(self, channel: Channel) -> None:
        self._channel, self._number, self._next = channel, next(self.numbers), 0.0

    def show(self, what: str, done: float, total: float | None, unit: str, figures: dict[str, float]) -> None:
        """Send it, unless the last message is fresh."""
        if (now := time.monotonic()) >= self._next:
            self._next = now + SHOW_SECONDS
            self._channel.tell("progress", self._number, what, done, total, unit, figures)

    def end(self) -> None:
        """Say that no more will come."""
        self._channel.tell("end", self._number)


class RelayHandler(logging.Handler):
    """Log records as messages to whoever started the host."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.INFO)
        self._channel = channel
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record's text and level."""
        self._channel.tell("log", record.levelno, record.name, self.format(record))


def main(handle: str) -> None:
    """Build the jobs that come on standard input until it ends; messages leave on the descriptor `handle`."""
    channel = Channel(int(handle))
    sys.stdout = Outlet(os.fdopen(1, "wb", closefd=False), errors="replace", line_buffering=True)
    sys.stderr = Outlet(os.fdopen(2, "wb", closefd=False), errors="replace", line_buffering=True)
    with _private_input() as jobs:
        logging.basicConfig(level=logging.INFO, handlers=[RelayHandler(channel)])
        logging.captureWarnings(True)
        line_sink.set(lambda: RelaySink(channel))
        while line := jobs.readline():
            _work(read_job(line.encode()), channel)
    os._exit(0)  # all is on disk; taking down torch would take another second


def _private_input() -> TextIOWrapper:
    """Return standard input for this process alone: what a stage starts must not read its jobs."""
    jobs = os.fdopen(os.dup(0), encoding="utf-8")
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123  # a descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    return jobs


def _work(job: Job, channel: Channel) -> None:
    """Build one stage and tell how it went, behind everything that it printed."""
    try:
        built = build(job.store, job.stage, job.config, job.inputs, node=job.node)
    except (UserError, StageFailed, DamagedArtifact) as error:
        _flush()
        channel.tell("failed", *error_fields(error))
    else:
        _flush()
        channel.tell("built", built.artifact.key, built.hit, built.seconds)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
