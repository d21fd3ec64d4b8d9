"""The WARC files of a crawl: request, response and metadata of each page, a gzip member each."""

import base64
import hashlib
import os
import uuid
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from fastwarc.stream_io import GzipWriter
from fastwarc.warc import WarcRecord, WarcRecordType

from pipelines.artifacts.work import fsync_dir
from pipelines.corpus.crawler.fetching import Answer
from pipelines.corpus.crawler.frontier import Frontier, Visit

UNSYNCED_BYTES = 8_000_000
"""What is written between two calls of fsync; until then the frontier holds the same bytes."""
TRANSFER = frozenset({b"transfer-encoding", b"content-length", b"trailer", b"connection"})
"""Headers that speak of the transfer, which is over: they are kept under another name, as Common Crawl does."""


class Archive:
    """Appends records to numbered files, in step with the frontier."""

    def __init__(self, folder: Path, frontier: Frontier, crawl_id: str, info: dict[str, str], file_bytes: int) -> None:
        self.folder, self.frontier, self.crawl_id, self.info = folder, frontier, crawl_id, info
        self.file_bytes = file_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._unsynced = 0
        self._reserved: list[tuple[Path, int, bytes]] = []
        self._redo()

    @property
    def path(self) -> Path:
        """The file that is being written."""
        return self.folder / f"crawl-{self.frontier.number('file'):05d}.warc.gz"

    def files(self) -> list[Path]:
        """Return all files, in order."""
        return [self.folder / f"crawl-{number:05d}.warc.gz" for number in range(self.frontier.number("file") + 1)]

    def _redo(self) -> None:
        """Cut off what the frontier does not know, then write again what may not have reached the disk."""
        rows = self.frontier.db.execute("SELECT file, offset, data FROM journal ORDER BY id").fetchall()
        first = {name: min(offset for file, offset, _ in rows if file == name) for name, *_ in rows}
        if self.path.name not in first and self.path.exists():
            first[self.path.name] = self.frontier.number("size")
        for name, size in first.items():
            if (self.folder / name).exists():
                os.truncate(self.folder / name, size)
        for name, offset, data in rows:
            self._write(self.folder / name, offset, data)
        self.sync()
        if not self.frontier.number("size"):
            with self.frontier.transaction():
                self.reserve(b"")
            self.append()

    def reserve(self, data: bytes) -> tuple[str, int]:
        """Store the bytes in the frontier, in the caller's transaction, as the next of a file; return file and offset.

        A new file with its warcinfo record begins where this one would outgrow its limit.
        """
        size = self.frontier.number("size")
        if not size or (size + len(data) > self.file_bytes and size > self.frontier.number("head")):
            self.frontier.count("file", 1 if size else 0)
            head = self._warcinfo()
            self._store(0, head)
            self.frontier.set_number("head", len(head))
            size = len(head)
        self._store(size, data)
        self.frontier.set_number("size", size + len(data))
        return self.path.name, size

    def _store(self, offset: int, data: bytes) -> None:
        query = "INSERT INTO journal (file, offset, data) VALUES (?, ?, ?)"
        self.frontier.db.execute(query, (self.path.name, offset, data))
        self._reserved.append((self.path, offset, data))

    def append(self) -> None:
        """Write what was reserved, after the transaction."""
        for path, offset, data in self._reserved:
            self._write(path, offset, data)
            self._unsynced += len(data)
        self._reserved.clear()
        if self._unsynced > UNSYNCED_BYTES:
            self.sync()

    @staticmethod
    def _write(path: Path, offset: int, data: bytes) -> None:
        with path.open("r+b" if path.exists() else "xb") as file:
            file.seek(offset)
            file.write(data)

    def sync(self) -> None:
        """Bring the files to the disk and let the frontier's copies go."""
        names = self.frontier.db.execute("SELECT DISTINCT file FROM journal").fetchall()
        for (name,) in names:
            with (self.folder / name).open("rb") as file:
                os.fsync(file.fileno())
        fsync_dir(self.folder)
        self.frontier.db.execute("DELETE FROM journal")
        self._unsynced = 0

    def _warcinfo(self) -> bytes:
        fields = {**self.info, "isPartOf": self.crawl_id, "filename": self.path.name, "robots": "obey"}
        fields |= {"format": "WARC File Format 1.1", "conformsTo": "http://iipc.github.io/warc-specifications/"}
        text = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode()
        headers = {"WARC-Filename": self.path.name, "Content-Type": "application/warc-fields"}
        identity = self._urn("warcinfo", self.path.name)
        return member(WarcRecordType.warcinfo, identity, datetime.now(UTC), headers, text)

    def page(self, visit: Visit, answer: Answer) -> bytes:
        """Return the members of the page's response, request and metadata."""
        response, request = self._urn("response", answer.url), self._urn("request", answer.url)
        target = {"WARC-Target-URI": answer.url}
        about = target | {"WARC-IP-Address": answer.address} if answer.address else target
        payload = {"WARC-Payload-Digest": sha1(answer.body), "Content-Type": "application/http;msgtype=response"}
        note = f"via: {visit.via}\r\n" if visit.via else ""
        note += f"hopsFromSeed: {'L' * visit.depth}{'R' * visit.hops}\r\nfetchTimeMs: {answer.seconds * 1000:.0f}\r\n"
        beside = {"WARC-Concurrent-To": f"<urn:{response}>"}
        return (
            member(WarcRecordType.response, response, answer.started, about | payload, response_block(answer))
            + member(
                WarcRecordType.request,
                request,
                answer.started,
                about | beside | {"Content-Type": "application/http;msgtype=request"},
                answer.request,
            )
            + member(
                WarcRecordType.metadata,
                self._urn("metadata", answer.url),
                answer.started,
                target | beside | {"Content-Type": "application/warc-fields"},
                note.encode(),
            )
        )

    def _urn(self, kind: str, name: str) -> str:
        return f"uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{self.crawl_id} {kind} {name}')}"


def member(kind: WarcRecordType, identity: str, moment: datetime, headers: dict[str, str], block: bytes) -> bytes:
    """Return a WARC/1.1 record as one gzip member."""
    record = WarcRecord()
    record.init_headers(kind, record_urn=identity.encode())
    record.headers["WARC-Date"] = moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    for name, value in headers.items():
        record.headers[name] = value
    record.set_bytes_content(block)
    into = BytesIO()
    writer = GzipWriter(into, compression_level=6)
    record.write(writer, checksum_data=True)
    writer.finish()
    return into.getvalue()


def response_block(answer: Answer) -> bytes:
    """Return head and body of a response, with a length that fits the body as it is stored."""
    head = [answer.status_line]
    head += [(b"X-Crawl-" if key.lower() in TRANSFER else b"") + key + b": " + value for key, value in answer.headers]
    head.append(b"Content-Length: %d" % len(answer.body))
    return b"\r\n".join(head) + b"\r\n\r\n" + answer.body


def sha1(data: bytes) -> str:
    """Return a digest as WARC files give it: SHA-1 in base 32, for identity and not for security."""
    return f"sha1:{base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()}"
