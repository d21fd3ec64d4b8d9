"""How long work shows itself: a bar with time left on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T")

QUIET_SECONDS = 2.0
LINE_SECONDS = 10.0


class Sink(Protocol):
    """Where progress is shown."""

    def show(self, what: str, done: float, total: float | None, unit: str, figures: dict[str, float]) -> None:
        """Show that `done` of `total` units of `what` are done."""
        ...

    def end(self) -> None:
        """Take the display away."""
        ...


class LineSink:
    """A plain line after two seconds and then every ten, for logs and pipes."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.last = self.start + QUIET_SECONDS - LINE_SECONDS
        self.first: float | None = None

    def show(self, what: str, done: float, total: float | None, unit: str, figures: dict[str, float]) -> None:
        """Print a line, unless the last one is fresh."""
        now = time.monotonic()
        if self.first is None:
            self.start, self.first = now, done
        if now - self.last < LINE_SECONDS:
            return
        self.last = now
        rate = (done - self.first) / (now - self.start) if now > self.start else 0.0
        left = (total - done) / rate if total and rate else None
        self.write(describe(what, done, total, unit, figures, left))

    def write(self, line: str) -> None:
        """Put the line where people read it."""
        say(line)

    def end(self) -> None:
        """Leave the printed lines as they are."""


line_sink: ContextVar[type[LineSink]] = ContextVar("line_sink", default=LineSink)
"""Where plain lines go; set by whoever has a log of its own, such as a Prefect task."""


class BarSink:
    """A bar with time left, drawn by rich once the work has taken two seconds."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.start = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
        self.bar = Progress(*columns, TimeRemainingColumn(), transient=True)
        self.task: int | None = None

    def show(self, what: str, done: float, total: float | None, unit: str, figures: dict[str, float]) -> None:
        """Move the bar."""
        if time.monotonic() - self.start < QUIET_SECONDS:
            return
        if self.task is None:
            self.bar.start()
            self.task = self.bar.add_task(what, total=total, note="")
        note = f"{_count(done, total, unit)} {_figures(figures)}"
        self.bar.update(self.bar.task_ids[0], completed=done, note=note)

    def end(self) -> None:
        """Take the bar off the terminal."""
        if self.task is not None:
            self.bar.stop()


def describe(
    what: str, done: float, total: float | None, unit: str, figures: dict[str, float], left_seconds: float | None
) -> str:
    """Return one line of progress, with the time left where it is known."""
    left = f", {int(left_seconds) // 60}:{int(left_seconds) % 60:02d} left" if left_seconds is not None else ""
    return f"{what}: {_count(done, total, unit)}{left} {_figures(figures)}".rstrip()


def _count(done: float, total: float | None, unit: str) -> str:
    return f"{done:,.0f}/{total:,.0f} {unit} ({done / total:.0%})" if total else f"{done:,.0f} {unit}"


def _figures(figures: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in figures.items())


def _default_sink() -> Sink:
    return BarSink() if sys.stderr.isatty() else line_sink.get()()


class Meter:
    """Counts units of one piece of work."""

    def __init__(self, what: str, total: float | None, unit: str, sink: Sink, done: float) -> None:
        self.what, self.total, self.unit, self.sink, self.done = what, total, unit, sink, done

    def advance(self, amount: float = 1, **figures: float) -> None:
        """Count `amount` more units and show the figures that go with them."""
        self.done += amount
        self.sink.show(self.what, self.done, self.total, self.unit, figures)


@contextmanager
def meter(what: str, *, total: float | None = None, unit: str = "", done: float = 0) -> Iterator[Meter]:
    """Yield a meter for work of `total` units, `done` of which were done before."""
    sink = _default_sink()
    try:
        yield Meter(what, total, unit, sink, done)
    finally:
        sink.end()


def track(items: Iterable[T], what: str, *, total: float | None = None, unit: str = "") -> Iterator[T]:
    """Yield the items while a meter counts them."""
    with meter(what, total=total, unit=unit) as counter:
        for item in items:
            yield item
            counter.advance()


def say(line: str) -> None:
    """Show one line of news about a run, such as what it waits for."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
