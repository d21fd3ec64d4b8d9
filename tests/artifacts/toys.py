"""Small real stages for tests of the store: text in, text out."""

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.pins import FileRoot, Root, source_files
from pipelines.artifacts.progress import meter
from pipelines.artifacts.stage import Metrics, Stage, StageConfig
from pipelines.artifacts.work import Progress, atomic_file, commit_progress, progress_dir
from pipelines.pretraining.stopping import stop_on_sigterm


class SourceConfig(StageConfig):
    runtime: ClassVar[frozenset[str]] = frozenset({"workers"})
    pinned: ClassVar[frozenset[str]] = frozenset({"path"})
    path: Path = Path("missing")
    repeat: int = Field(1, ge=1)
    labels: dict[str, int] = Field(default_factory=dict)
    workers: int = 1

    def roots(self) -> dict[str, Root]:
        return {"path": FileRoot(source_files(self.path, (".txt",), "path"), "path")}


def source(config: SourceConfig, *, out: Path) -> Metrics:
    texts = [path.read_text() for path in source_files(config.path, (".txt",), "path").values()]
    (out / "text").mkdir()
    (out / "text" / "all.txt").write_text("".join(texts) * config.repeat)
    (out / "log").mkdir()
    (out / "log" / "workers.txt").write_text(str(config.workers))
    return {"in": len(texts), "kept": len(texts)}


class UpperConfig(StageConfig):
    mark: str = "!"


def upper(config: UpperConfig, *, text: Path, out: Path) -> Metrics:
    (out / "text").mkdir()
    (out / "text" / "all.txt").write_text((text / "all.txt").read_text().upper() + config.mark)
    return {"kept": 1}


class CountConfig(StageConfig):
    steps: int = Field(5, ge=1)
    stop_at: int = Field(0, description="Raises after this many steps, once.")
    runtime: ClassVar[frozenset[str]] = frozenset({"stop_at"})


def count(config: CountConfig, *, text: Path, out: Path) -> Metrics:
    progress = progress_dir(out) / "done"
    done = len(progress.read_text()) if progress.exists() else 0
    for step in range(done, config.steps):
        if config.stop_at == step + 1 and done == 0:
            raise RuntimeError("stopped in the middle")
        progress.write_text("x" * (step + 1))
        commit_progress(out, Progress(step + 1, config.steps, "steps"))
    (out / "count").mkdir(exist_ok=True)
    (out / "count" / "count.txt").write_text(str(config.steps))
    return {"resumed_at": done}


class SlowConfig(StageConfig):
    runtime: ClassVar[frozenset[str]] = frozenset({"device", "pause_seconds", "save_seconds"})
    steps: int = Field(20, ge=1)
    salt: str = ""
    pause_seconds: float = 0.0
    save_seconds: float = 0.0
    device: str = "cpu"


def slow(config: SlowConfig, *, text: Path, out: Path) -> Metrics:
    """Hash the text over and over, as training does: a commit a step, a helper in a session of its own, a stop."""
    state = progress_dir(out) / "state.json"
    step, value = json.loads(state.read_text()) if state.exists() else (0, config.salt + (text / "all.txt").read_text())
    start = step
    helper = subprocess.Popen(["sleep", "600"], start_new_session=True)
    logging.getLogger("toy").info("slow: from step %d", start)
    print(f"slow: helper {helper.pid}")
    try:
        with stop_on_sigterm() as stop, meter("slow", total=config.steps, unit="steps", done=step) as counter:
            while step < config.steps and not stop.made:
                step, value = step + 1, hashlib.sha256(value.encode()).hexdigest()
                with atomic_file(state, out) as fresh:
                    fresh.write_text(json.dumps([step, value]))
                commit_progress(out, Progress(step, config.steps, "steps"))
                counter.advance()
                time.sleep(config.pause_seconds)
            if stop.made:
                time.sleep(config.save_seconds)
                raise StageFailed(f"slow: stopped after step {step}; run again to go on")
    finally:
        helper.kill()
        helper.wait()
    (out / "count").mkdir(exist_ok=True)
    (out / "count" / "hash.txt").write_text(value)
    return {"resumed_at": start}


class MeetConfig(StageConfig):
    runtime: ClassVar[frozenset[str]] = frozenset({"place", "fails"})
    name: str
    place: Path | None = None
    fails: bool = False


def meet(config: MeetConfig, *, text: Path, out: Path) -> Metrics:
    """Copy the text once another stage is at the place as well, so that the two must be built side by side."""
    if config.place:
        (config.place / config.name).touch()
        until = time.monotonic() + 60
        while len(list(config.place.iterdir())) < 2:
            if time.monotonic() > until:
                raise StageFailed(f"{config.name}: nobody came")
            time.sleep(0.02)
    if config.fails:
        raise StageFailed(f"{config.name}: failed")
    (out / "text").mkdir()
    (out / "text" / "all.txt").write_text(f"{config.name} {(text / 'all.txt').read_text()}")
    return {"kept": 1}


def join(config: StageConfig, *, left: Path, right: Path, out: Path) -> Metrics:
    (out / "text").mkdir()
    (out / "text" / "all.txt").write_text("".join((side / "all.txt").read_text() for side in (left, right)))
    return {"kept": 2}


class TalkConfig(StageConfig):
    fails: bool = False


def talk(config: TalkConfig, *, out: Path) -> Metrics:
    """Say something in every way that libraries know."""
    from loguru import logger

    secret = os.environ["TOY_TOKEN"]
    if config.fails:
        raise ValueError(f"{secret} is refused")
    log = logging.getLogger("toy")
    log.debug("debug of the standard log")
    log.info("info of the standard log")
    log.warning("warning of the standard log")
    logger.debug("a line of loguru for debugging")
    logger.info("a line of loguru")
    warnings.warn("a warning", stacklevel=1)
    print("a printed line")
    print(f"token {secret}")
    print("see https://me:pass-word@mirror.example/x")
    print("half of a bar\rthe last state of a bar", file=sys.stderr)
    (out / "text").mkdir()
    (out / "text" / "all.txt").write_text("said")
    return {"kept": 1}


class FlakyConfig(StageConfig):
    fails: int = 1


def flaky(config: FlakyConfig, *, out: Path) -> Metrics:
    """Fail so often as a network does that comes back."""
    tries = progress_dir(out) / "tries"
    count = len(tries.read_text()) if tries.exists() else 0
    if count < config.fails:
        tries.write_text("x" * (count + 1))
        raise ConnectionResetError("the mirror went away")
    (out / "text").mkdir()
    (out / "text" / "all.txt").write_text("here")
    return {"kept": 1}


class BreakConfig(StageConfig):
    how: str = "UserError"


def break_off(config: BreakConfig, *, out: Path) -> Metrics:
    """Fail by a mistake of the user's, or as when the kernel kills for memory."""
    if config.how == "Killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise UserError(f"break.how: {config.how!r}; choose another")


BREAK = Stage("break", version=1, run=break_off)
TALK = Stage("talk", version=1, run=talk)
MEET = Stage("meet", version=1, run=meet)
JOIN = Stage("join", version=1, run=join)
FLAKY = Stage("flaky", version=1, run=flaky, resumable=True)
SLOW = Stage("slow", version=1, run=slow, resumable=True)
SOURCE = Stage("source", version=1, run=source, libraries=("pydantic",))
UPPER = Stage("upper", version=1, run=upper, libraries=("rich",))
COUNT = Stage("count", version=1, run=count, resumable=True)
