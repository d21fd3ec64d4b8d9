"""Lines or paragraphs that many documents repeat: found over all kept documents, cut from all but one."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from pipelines.artifacts.progress import meter
from pipelines.artifacts.work import progress_dir
from pipelines.corpus.dedup import RepeatedConfig
from pipelines.corpus.documents import ROWS_PER_GROUP
from pipelines.corpus.duplicates.band_runs import BandRuns
from pipelines.corpus.ngrams import normalised
from pipelines.corpus.selection import numbered_parts

BREAKS = {"lines": re.compile(r"\n"), "paragraphs": re.compile(r"\n\s*\n")}
RUN = 1 << 22
"""Units of a sorted run: 64 MiB."""


class RepeatedText:
    """Finds what is repeated and cuts it; the document that ranks first among those that hold a unit keeps it."""

    def __init__(self, config: RepeatedConfig, ranks: NDArray[np.int64]) -> None:
        self.config, self.ranks = config, ranks
        self.emptied = np.zeros(len(ranks), np.bool_)
        """Documents of which nothing is left."""
        self.found = False
        self._hashes, self._keepers = np.empty(0, np.uint64), np.empty(0, np.int64)
        self._cut = np.zeros((len(ranks) if config.unit != "off" else 0, 2), np.int64)

    def find(self, documents: Path, kept: NDArray[np.bool_], out: Path) -> None:
        """Count the units of the documents that `kept` names, in sorted runs on disk."""
        if self.config.unit == "off":
            return
        runs = BandRuns(progress_dir(out) / "units", 1, RUN)
        with meter("counting repeated text", total=len(kept), unit="documents") as counter:
            for part, first in numbered_parts(documents):
                with pq.ParquetFile(part) as file:
                    for batch in file.iter_batches(batch_size=ROWS_PER_GROUP, columns=["text"]):
                        self._count(batch, first, kept, runs)
                        first += len(batch)
                        counter.advance(len(batch))
        runs.flush()
        hashes, keepers = [], []
        for _, buckets in runs.buckets(self.ranks, kept):
            many = np.flatnonzero(np.diff(buckets.starts) > self.config.max_documents)
            hashes.append(buckets.keys[many])
            keepers.append(buckets.documents[buckets.starts[many]])
        self._hashes = np.concatenate([self._hashes, *hashes])
        self._keepers = np.concatenate([self._keepers, *keepers])
        self.found = len(self._hashes) > 0

    def _count(self, batch: pa.RecordBatch, first: int, kept: NDArray[np.bool_], runs: BandRuns) -> None:
        for row, text in enumerate(batch.column("text").to_pylist(), first):
            if kept[row]:
                own = {number for _, number in self._units(text or "") if number is not None}
                hashes = np.fromiter(own, np.uint64, len(own))
                runs.add(np.full(len(own), row), hashes[:, None])

    def _units(self, text: str) -> Iterator[tuple[str, int | None]]:
        """Yield the pieces that `text` consists of: each unit with its hash, breaks and short units with None."""
        at = 0
        for found in BREAKS[self.config.unit].finditer(text):
            yield self._unit(text[at : found.start()])
            yield found[0], None
            at = found.end()
        yield self._unit(text[at:])

    def _unit(self, piece: str) -> tuple[str, int | None]:
        normal = normalised(piece)
        long = len(normal) >= self.config.min_chars
        return piece, xxhash.xxh3_64_intdigest(normal.encode("utf-8", "surrogatepass")) if long else None

    def cut(self, batch: pa.RecordBatch, first: int) -> tuple[pa.RecordBatch, NDArray[np.bool_]]:
        """Return the rows from `first` on with shorter texts, and which of them are not empty now."""
        texts = [self._shortened(text or "", row) for row, text in enumerate(batch.column("text").to_pylist(), first)]
        place = batch.schema.get_field_index("text")
        fresh = batch.set_column(place, batch.schema.field(place), pa.array(texts, batch.schema.field(place).type))
        return fresh, ~self.emptied[first : first + len(batch)]

    def _shortened(self, text: str, row: int) -> str:
        left: list[str] = []
        after_cut = False
        for piece, number in self._units(text):
            cut = number is not None and self._is_cut(number, row)
            if cut:
                self._cut[row] += (1, len(piece))
            elif not (after_cut and number is None and piece.isspace()):  # its break goes with a unit
                left.append(piece)
            after_cut = cut
        if not self._cut[row, 0]:
            return text
        short = "".join(left).rstrip()
        self.emptied[row] = not short.strip()
        return short

    def _is_cut(self, number: int, row: int) -> bool:
        place = int(np.searchsorted(self._hashes, np.uint64(number)))
        return place < len(self._hashes) and int(self._hashes[place]) == number and int(self._keepers[place]) != row

    def counts(self) -> dict[str, float]:
        """Return how many units and characters were cut from the documents kept, and how many were left empty."""
        if self.config.unit == "off":
            return {}
        units, characters = self._cut[~self.emptied].sum(axis=0)
        empty = {"dropped.repeated": float(self.emptied.sum())} if self.emptied.any() else {}
        return {f"cut.{self.config.unit}": float(units), "cut.characters": float(characters)} | empty
