"""Every deployment as a row: what runs, when, and what happens when it is still running then."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.stage import StageConfig
from pipelines.config import DedupOnlyConfig, EvaluateAndPromoteConfig, FullConfig, PrepareCorpusConfig, RetrainConfig

POOL = "gristmill"
"""The work pool of the hosts that run flows, one process worker a host."""
CORPUS_PUBLISHED = "gristmill.corpus.published"
"""The event that `prepare-corpus` emits when it has published a corpus that the store did not have."""


@dataclass(frozen=True)
class Row:
    """One deployment. Its name is that of its flow."""

    name: str
    entrypoint: str
    config: type[StageConfig]
    purpose: str
    cron: str | None = None
    """In UTC."""
    event: str | None = None
    """Starts a run of it."""
    queue: str = "default"
    """The work queue where a work pool runs it."""
    overlap: Literal["queue", "skip"] = "queue"
    """What becomes of a run whose predecessor is still running: it waits, or is cancelled."""
    at_once: int | None = 1
    """How many may run at a time; None for any number."""


ROWS = (
    Row("full", "flows.full:full", FullConfig, "From a crawl to a packaged model with a report, on demand."),
    Row(
        "prepare-corpus",
        "flows.data:prepare_corpus",
        PrepareCorpusConfig,
        "A clean corpus of a crawl; a new one is announced by an event.",
    ),
    Row(
        "dedup-only",
        "flows.data:dedup_only",
        DedupOnlyConfig,
        "The data team's nightly deduplication, in a queue of its own.",
        cron="0 2 * * *",
        queue="data",
        overlap="skip",
    ),
    Row(
        "retrain",
        "flows.retrain:retrain",
        RetrainConfig,
        "The served model trained on with what is new in a crawl: weekly, and when a new corpus is announced.",
        cron="0 4 * * 0",
        event=CORPUS_PUBLISHED,
        overlap="skip",
    ),
    Row(
        "evaluate-and-promote",
        "flows.release:evaluate_and_promote",
        EvaluateAndPromoteConfig,
        "A packaged model set against the served one, and served if it passes every gate.",
    ),
    Row("stage", "flows.stage:stage", FullConfig, "Any one stage of a full run, by name.", at_once=None),
)
NAMES = tuple(row.name for row in ROWS)


def chosen(names: Iterable[str], schedules: Iterable[str] = (), overlaps: Iterable[str] = ()) -> tuple[Row, ...]:
    """Return the rows of these names, or all, with schedules and overlaps changed as `NAME=VALUE` says."""
    rows = {name: _named(name) for name in dict.fromkeys(names or NAMES)}
    for name, cron in _settings("--schedule", schedules, rows):
        rows[name] = replace(rows[name], cron=None if cron == "off" else cron)
    for name, overlap in _settings("--overlap", overlaps, rows):
        if overlap not in ("queue", "skip"):
            raise UserError(f"--overlap: {name}: {overlap!r} is neither; write {name}=queue or {name}=skip")
        rows[name] = replace(rows[name], overlap="queue" if overlap == "queue" else "skip")
    return tuple(rows.values())


def _named(name: str) -> Row:
    for row in ROWS:
        if row.name == name:
            return row
    near = get_close_matches(name, NAMES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NAMES)}"
    raise UserError(f"deployment: {name!r} is none; {hint}")


def _settings(option: str, texts: Iterable[str], rows: Mapping[str, Row]) -> Iterator[tuple[str, str]]:
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in rows:
            raise UserError(f"{option}: {text!r} names no deployment; write NAME=VALUE, NAME one of {', '.join(rows)}")
        yield name, value.strip()
