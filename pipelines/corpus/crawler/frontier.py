"""What a crawl knows and has done, in one SQLite file that a kill at any moment leaves whole.

A URL is queued, claimed (its robots.txt is looked up), asked for, and then done or dropped with a reason. The bytes
of a page's records are first stored here, in the transaction that marks the page as done, and then appended to the
WARC file: a kill between the two is made good from here, so a record and its mark are always both there or neither.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

QUEUED, CLAIMED, ASKED, DONE, DROPPED = range(5)
SCHEMA = """
CREATE TABLE IF NOT EXISTS url (
    id INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE, host TEXT NOT NULL, depth INTEGER NOT NULL,
    hops INTEGER NOT NULL, via TEXT NOT NULL, state INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0, status INTEGER, reason TEXT, bytes INTEGER NOT NULL DEFAULT 0,
    file TEXT, offset INTEGER);
CREATE INDEX IF NOT EXISTS queue ON url (host, depth, id) WHERE state = 0;
CREATE INDEX IF NOT EXISTS due ON url (host, not_before) WHERE state = 0;
CREATE TABLE IF NOT EXISTS robots (
    origin TEXT PRIMARY KEY, fetched_at REAL NOT NULL, verdict TEXT NOT NULL, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS journal (id INTEGER PRIMARY KEY, file TEXT NOT NULL, offset INTEGER NOT NULL, data BLOB);
CREATE TABLE IF NOT EXISTS number (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


@dataclass(frozen=True)
class Visit:
    """A URL that is to be fetched."""

    id: int
    url: str
    host: str
    depth: int
    hops: int
    via: str
    tries: int


class Frontier:
    """The state of one crawl. Every method that changes it is a transaction, or part of the caller's."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The loop of a notebook makes the crawl run in a thread beside the one that opened this; never both at a time.
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # In WAL mode a commit survives a kill at once, and a power cut loses the last ones but never the order.
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.db.executescript(SCHEMA)
        self.known = int(self.db.execute("SELECT count(*) FROM url").fetchone()[0])

    def clear(self) -> None:
        """Forget everything."""
        with self.transaction():
            for table in ("url", "robots", "journal", "number"):
                self.db.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours
        self.known = 0

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def transaction(self) -> AbstractContextManager[object]:
        """Return a block whose changes are made together or not at all."""
        self.db.execute("BEGIN IMMEDIATE")
        return self.db

    def recover(self, retry_interrupted: bool) -> int:
        """Take back what a kill left under way; return how many pages were given up as interrupted.

        A page that was asked for may have been sent whole, so it is asked for again only where that is allowed, or
        where it is a seed, without which there is no crawl.
        """
        with self.transaction():
            self.db.execute("UPDATE url SET state = ? WHERE state = ?", (QUEUED, CLAIMED))
            self.db.execute(
                "UPDATE url SET state = ? WHERE state = ? AND (? OR depth = 0)", (QUEUED, ASKED, retry_interrupted)
            )
            change = "UPDATE url SET state = ?, reason = 'interrupted' WHERE state = ?"
            return self.db.execute(change, (DROPPED, ASKED)).rowcount

    def add(self, urls: Iterable[tuple[str, str]], depth: int, hops: int, via: str) -> list[str]:
        """Queue the URLs (each with its host) that are not known yet; return the hosts of the new ones."""
        added = []
        for url, host in urls:
            row = (url, host, depth, hops, via)
            query = "INSERT OR IGNORE INTO url (url, host, depth, hops, via) VALUES (?, ?, ?, ?, ?)"
            if self.db.execute(query, row).rowcount:
                added.append(host)
        self.known += len(added)
        return added

    def add_dropped(self, url: str, depth: int, hops: int, via: str, reason: str) -> None:
        """Note a redirect's target that is not fetched, unless it is known."""
        query = "INSERT OR IGNORE INTO url (url, host, depth, hops, via, state, reason) VALUES (?, '', ?, ?, ?, ?, ?)"
        self.known += self.db.execute(query, (url, depth, hops, via, DROPPED, reason)).rowcount

    def claim(self, host: str, now: float) -> Visit | None:
        """Return the host's next URL whose time has come, nearest to a seed first, and mark it as claimed."""
        row = self.db.execute(
            "SELECT id, url, host, depth, hops, via, tries FROM url INDEXED BY queue "
            "WHERE state = 0 AND host = ? AND not_before <= ? ORDER BY depth, id LIMIT 1",
            (host, now),
        ).fetchone()
        if row is None:
            return None
        self._mark(row[0], CLAIMED)
        return Visit(*row)

    def next_time(self, host: str) -> float | None:
        """Return when the host's earliest queued URL may be asked for; None where none is queued."""
        query = "SELECT min(not_before) FROM url INDEXED BY due WHERE state = 0 AND host = ?"
        found = self.db.execute(query, (host,)).fetchone()[0]
        return None if found is None else float(found)

    def asked(self, visit: Visit) -> None:
        """Note that the request goes out now."""
        self._mark(visit.id, ASKED)

    def _mark(self, number: int, state: int) -> None:
        self.db.execute("UPDATE url SET state = ? WHERE id = ?", (state, number))

    def requeue(self, visit: Visit, not_before: float) -> None:
        """Queue the URL for one more try, not before this time."""
        query = "UPDATE url SET state = ?, tries = tries + 1, not_before = ? WHERE id = ?"
        self.db.execute(query, (QUEUED, not_before, visit.id))

    def drop(self, visit: Visit, reason: str, size: int = 0, status: int | None = None) -> None:
        """Give the URL up for the reason; `size` bytes were read in vain."""
        query = "UPDATE url SET state = ?, reason = ?, bytes = ?, status = ? WHERE id = ?"
        self.db.execute(query, (DROPPED, reason, size, status, visit.id))

    def done(self, visit: Visit, status: int, size: int, file: str, offset: int) -> None:
        """Mark the URL as fetched, with where its response stands."""
        query = "UPDATE url SET state = ?, status = ?, bytes = ?, file = ?, offset = ? WHERE id = ?"
        self.db.execute(query, (DONE, status, size, file, offset, visit.id))

    def robots(self, origin: str) -> tuple[float, str, str] | None:
        """Return when the origin's robots.txt was fetched, the verdict and the text."""
        query = "SELECT fetched_at, verdict, text FROM robots WHERE origin = ?"
        found: tuple[float, str, str] | None = self.db.execute(query, (origin,)).fetchone()
        return found

    def keep_robots(self, origin: str, at: float, verdict: str, text: str) -> None:
        """Remember an origin's robots.txt."""
        self.db.execute("INSERT OR REPLACE INTO robots VALUES (?, ?, ?, ?)", (origin, at, verdict, text))

    def number(self, name: str) -> int:
        """Return a remembered number, 0 where there is none."""
        row = self.db.execute("SELECT value FROM number WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def set_number(self, name: str, value: int) -> None:
        """Remember a number."""
        self.db.execute("INSERT OR REPLACE INTO number VALUES (?, ?)", (name, value))

    def count(self, name: str, amount: int) -> None:
        """Add to a remembered number."""
        if amount:
            self.set_number(name, self.number(name) + amount)

    def loads(self) -> dict[str, tuple[int, int]]:
        """Return for each host the responses kept of it and the bytes read from it."""
        query = "SELECT host, sum(state = ?), sum(bytes) FROM url WHERE host != '' GROUP BY host"
        return {host: (int(pages), int(size)) for host, pages, size in self.db.execute(query, (DONE,))}

    def drops(self) -> dict[str, int]:
        """Return how many URLs were given up, by reason."""
        query = "SELECT reason, count(*) FROM url WHERE state = ? GROUP BY reason ORDER BY reason"
        return {str(reason): int(count) for reason, count in self.db.execute(query, (DROPPED,))}

    def left(self) -> int:
        """Return how many URLs are still queued."""
        return int(self.db.execute("SELECT count(*) FROM url WHERE state = 0").fetchone()[0])

    def rows(self) -> Iterator[dict[str, str | int | None]]:
        """Yield every URL with what became of it, in the order in which they were found."""
        names = ("url", "via", "depth", "hops", "state", "status", "reason", "bytes", "file", "offset")
        for row in self.db.execute(f"SELECT {', '.join(names)} FROM url ORDER BY id"):  # noqa: S608 - names of ours
            yield dict(zip(names, row, strict=True))
