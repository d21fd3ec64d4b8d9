"""A sample of the documents dropped for each reason, with their scores and without personal data."""

import hashlib
import heapq
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from datatrove.data import Document

from pipelines.corpus.annotation import ANNOTATED
from pipelines.corpus.documents import PROVENANCE, PartWriter, read_rows
from pipelines.corpus.personal.pii import Span, find_pii, replace_pii

SCORES = [field for field in ANNOTATED if field.name not in {*PROVENANCE.names, "pii"}]
SAMPLED = pa.schema(
    [("id", pa.string()), ("url", pa.string()), ("reason", pa.string()), ("text", pa.string()), *SCORES]
)

Row = dict[str, Any]


class Samples:
    """The documents whose ids have the smallest hashes, so many for each reason: the same ones in any order."""

    def __init__(self, size: int, characters: int) -> None:
        self.size, self.characters = size, characters
        self._held: dict[str, list[tuple[int, str, Row]]] = {}

    def offer(self, reason: str, document: Document) -> None:
        """Keep the document if its hash is among the smallest of its reason."""
        self._offer(reason, document.id, lambda: self._row(reason, document))

    def offer_written(self, path: Path) -> None:
        """Do so with the samples of a part, as `write` left them."""
        for row in read_rows(path):
            self._offer(row["reason"], row["id"], partial(dict, row))

    def _offer(self, reason: str, identifier: str, row: Callable[[], Row]) -> None:
        rank = -int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:8])
        held = self._held.setdefault(reason, [])
        full = len(held) >= self.size
        if full and not (held and (rank, identifier) > held[0][:2]):
            return
        if any(identifier == other for _, other, _ in held):  # a record may lie in two files
            return
        (heapq.heapreplace if full else heapq.heappush)(held, (rank, identifier, row()))

    def _row(self, reason: str, document: Document) -> Row:
        text, _ = replace_pii(document.text, [Span(**span) for span in document.metadata["pii"]])
        url = document.metadata["url"] or ""
        scores = {field.name: document.metadata[field.name] for field in SCORES}
        return {
            "id": document.id,
            "url": replace_pii(url, find_pii(url))[0],
            "reason": reason,
            "text": text[: self.characters],
            **scores,
        }

    def write(self, path: Path, out: Path, reasons: Iterable[str]) -> None:
        """Write the samples in the order of the reasons and, for each, of the hashes."""
        with PartWriter(path, out, SAMPLED) as writer:
            for reason in reasons:
                for _, _, row in sorted(self._held.get(reason, []), key=lambda item: item[:2], reverse=True):
                    writer.write_row(row)
