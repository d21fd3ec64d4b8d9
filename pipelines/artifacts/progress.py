"""How long work shows itself: a bar with rate and time left on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
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


class Pace:
    """How fast work has gone since it was first shown; what an earlier run had done does not count."""

    def __init__(self, done: float) -> None:
        self.start, self.first = time.monotonic(), done

    def rate(self, done: float) -> float:
        """Return the units a second; 0 as long as nothing is known."""
        seconds = time.monotonic() - self.start
        return (done - self.first) / seconds if seconds > 0 else 0.0


class LineSink:
    """A plain line after two seconds and then every ten, for logs and pipes."""

    def __init__(self) -> None:
        self.pace: Pace | None = None
        self.last = time.monotonic() + QUIET_SECONDS - LINE_SECONDS

    def show(self, what: str, done: float, total: float | None, unit: str, figures: dict[str, float]) -> None:
        """Print a line, unless the last one is fresh."""
        now = time.monotonic()
        self.pace = self.pace or Pace(done)
        if now - self.last < LINE_SECONDS:
            return
        self.last = now
        self.write(describe(what, done, total, unit, figures, self.pace.rate(done)))

    def write(self, line: str) -> None:
        """Put the line where people read it."""
        say(line)

    def end(self) -> None:
        """Leave the printed lines as they are."""


line_sink: ContextVar[Callable[[], Sink]] = ContextVar("line_sink", default=LineSink)
"""What shows progress where no terminal is; set by whoever has a log of its own, such as a Prefect task."""


class BarSink:
    """A bar with rate and time left, drawn by rich once the work has taken two seconds."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.start = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
        self.bar = Progress(*columns, TimeRemainingColumn(), transient=True)
        self.task: int | None = None
        self.pace: Pace | None = None

    def show(self, what: str, done: float, total: float | None, unit: str, figures: dict[str, float]) -> None:
        """Move the bar."""
        self.pace = self.pace or Pace(done)
        if time.monotonic() - self.start < QUIET_SECONDS:
            return
        if self.task is None:
            self.bar.start()
            self.task = self.bar.add_task(what, total=total, note="")
        note = f"{_count(done, total, unit)}{_rate(self.pace.rate(done), unit)} {_figures(figures)}"
        self.bar.update(self.bar.task_ids[0], completed=done, note=note)

    def end(self) -> None:
        """Take the bar off the terminal."""
        if self.task is not None:
            self.bar.stop()


def describe(what: str, done: float, total: float | None, unit: str, figures: dict[str, float], rate: float) -> str:
    """Return one line of progress, with units a second and, where the total is known, the time left."""
    seconds = int((total - done) / rate) if total and rate > 0 else None
    left = "" if seconds is None else f", {_clock(seconds)} left"
    return f"{what}: {_count(done, total, unit)}{_rate(rate, unit)}{left} {_figures(figures)}".rstrip()


def _clock(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def _count(done: float, total: float | None, unit: str) -> str:
    return f"{done:,.0f}/{total:,.0f} {unit} ({done / total:.0%})" if total else f"{done:,.0f} {unit}"


def _rate(rate: float, unit: str) -> str:
    if rate <= 0:
        return ""
    return f", {rate:,.0f} {unit}/s" if rate >= 10 else f", {rate:.2g} {unit}/s"


def _figures(figures: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in figures.items())


class BothSinks:
    """Shows progress in two places."""

    def __init__(self, first: Sink, second: Sink) -> None:
        self.first, self.second = first, second

    def show(self, what: str, done: float, total: float | None, unit: str, figures: dict[str, float]) -> None:
        """Show it in both."""
        self.first.show(what, done, total, unit, figures)
        self.second.show(what, done, total, unit, figures)

    def end(self) -> None:
        """Take both displays away."""
        self.first.end()
        self.second.end()


def sink_here() -> Sink:
    """Return where this process shows progress: a bar on a terminal, lines elsewhere and in a log of its own."""
    lines = line_sink.get()
    if not sys.stderr.isatty():
        return lines()
    return BarSink() if lines is LineSink else BothSinks(BarSink(), lines())


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
    sink = sink_here()
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
