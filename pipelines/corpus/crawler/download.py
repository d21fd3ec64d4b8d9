"""A remote file on this machine's disk: fetched range by range, resumed after a kill, started anew when it changed."""

import json
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.artifacts.errors import StageFailed
from pipelines.artifacts.progress import say
from pipelines.artifacts.work import atomic_file
from pipelines.corpus.crawler.ranges import Interrupted, Part, Remote
from pipelines.corpus.crawler.sources import CommonCrawlSource

SAFE_BYTES = 8_000_000
"""What is written between two calls of fsync: a kill costs no more than this."""
SHIFTS = 3
"""How often a file may change while it is fetched; more is a store whose tags mean nothing."""


@dataclass(frozen=True)
class State:
    """What is known of a file that is being fetched."""

    tag: str = ""
    size: int | None = None
    safe: int = 0
    """Bytes that are on the disk for certain."""


class Download:
    """One file on its way to `path`, with its state beside it."""

    def __init__(self, remote: Remote, source: CommonCrawlSource, name: str, path: Path, out: Path) -> None:
        self.remote, self.source, self.name, self.path, self.out = remote, source, name, path, out
        self.state_path = path.with_name(f"{path.name}.json")
        self.state = _read_state(self.state_path)
        self.shifts = 0

    def run(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Return when the file is whole; raise StageFailed when the tries are used up."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        if self.path.stat().st_size < self.state.safe or not self.state.tag:
            self._save(State())
        os.truncate(self.path, self.state.safe)
        tries = 0
        while not self._is_whole():
            before = self.state.safe
            try:
                self._range()
                tries = 0
            except Interrupted as error:
                tries = 0 if self.state.safe > before else tries + 1
                if tries > self.source.retries:
                    raise StageFailed(
                        f"{self.name}: {error}, {tries} times in a row at byte {self.state.safe:,}; "
                        "run again later, what is there is kept"
                    ) from error
                longest = min(self.source.max_wait_seconds, self.source.first_wait_seconds * 2.0 ** min(tries, 30))
                jitter = secrets.randbelow(1000) / 2000  # so that many workers do not come back at one moment
                sleep(max(longest * (0.5 + jitter), min(error.wait_seconds, self.source.max_wait_seconds)))

    def _is_whole(self) -> bool:
        return self.state.size is not None and self.state.safe == self.state.size

    def _range(self) -> None:
        """Fetch the next range and append what comes of it."""
        start, known = self.state.safe, self.state
        with self.remote.part(self.name, start, start + self.source.range_bytes, known.tag) as part:
            if start and (part.start != start or part.tag != known.tag or part.size != known.size):
                self._start_anew(part)
                return
            if (part.size or 0) > self.source.max_file_bytes:
                allowed = f"ingest.source.max_file_bytes is {self.source.max_file_bytes:,}"
                raise StageFailed(f"{self.name} has {part.size:,} bytes; {allowed}")
            self._append(part)

    def _start_anew(self, part: Part) -> None:
        self.shifts += 1
        if self.shifts > SHIFTS:
            raise StageFailed(
                f"{self.name}: it had to be begun anew {self.shifts} times (its ETag changes, or the server sends no "
                "ranges); try another ingest.source.base_url"
            )
        cause = "the server sends no ranges of it"
        if part.tag != self.state.tag or part.size != self.state.size:
            cause = f"it changed on the server (ETag {self.state.tag} is now {part.tag})"
        say(f"{self.name}: {cause}; fetched from its beginning")
        self._save(State())
        os.truncate(self.path, 0)

    def _append(self, part: Part) -> None:
        end, size = self.state.safe, part.size
        limit = self.source.max_file_bytes if size is None else size
        whole = False
        with self.path.open("r+b") as file:
            file.seek(end)
            try:
                for chunk in part.chunks:
                    end += len(chunk)
                    if end > limit:
                        raise StageFailed(f"{self.name}: more bytes came than {limit:,}; ask the server's owner")
                    file.write(chunk)
                    if end - self.state.safe >= SAFE_BYTES:
                        self._sync(file.fileno, file.flush, State(part.tag, size, end))
                whole = True
            finally:
                if end <= limit:
                    # Without a length, the end of the body is the end of the file, if it came without an error.
                    known = end if whole and size is None else size
                    self._sync(file.fileno, file.flush, State(part.tag, known, end))
        if end == part.start and end != size and size is not None:
            raise Interrupted("an empty range came")

    def _sync(self, fileno: Callable[[], int], flush: Callable[[], None], state: State) -> None:
        flush()
        os.fsync(fileno())
        self._save(state)

    def _save(self, state: State) -> None:
        self.state = state
        with atomic_file(self.state_path, self.out) as fresh:
            fresh.write_text(json.dumps(asdict(state)))


def _read_state(path: Path) -> State:
    try:
        return State(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return State()
