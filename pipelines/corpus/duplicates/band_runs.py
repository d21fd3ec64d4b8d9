"""The band tables on disk: sorted runs of (key, document), merged a range of keys at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.corpus.duplicates.minhash import Keys

RUN = 1 << 18
"""Documents of a run, and about as many of a range: 64 MiB of memory with 25 bands."""

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Buckets:
    """Documents that are equal in one band, bucket after bucket; in a bucket the best come first."""

    documents: Places
    starts: Places
    """Where each bucket begins in `documents`, and the end of the last."""
    keys: NDArray[np.uint64]
    """The key of each bucket."""


class BandRuns:
    """Takes keys of documents; what it holds in memory is one run."""

    def __init__(self, folder: Path, bands: int, run: int = RUN) -> None:
        self.folder, self.bands, self.run = folder, bands, run
        self._keys: list[Keys] = []
        self._places: list[Places] = []
        self._held = 0
        self._lengths: list[int] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, places: Places, keys: Keys) -> None:
        """Take a row of keys for each of the documents at `places`."""
        self._keys.append(keys)
        self._places.append(places)
        self._held += len(places)
        if self._held >= self.run:
            self.flush()

    def flush(self) -> None:
        """Write the run that is in memory."""
        if not self._held:
            return
        keys, places = np.concatenate(self._keys), np.concatenate(self._places)
        number = len(self._lengths)
        with self._path("keys", number).open("wb") as key_file, self._path("places", number).open("wb") as place_file:
            for band in range(self.bands):
                column = np.ascontiguousarray(keys[:, band])
                order = np.argsort(column)
                key_file.write(column[order].data)
                place_file.write(places[order].data)
        self._lengths.append(len(places))
        self._keys, self._places, self._held = [], [], 0

    def buckets(self, ranks: Places, meets: NDArray[np.bool_]) -> Iterator[tuple[int, Buckets]]:
        """Yield each band's number with its buckets of two or more documents that `meets` names, by rising keys."""
        tables = [self._open(number) for number in range(len(self._lengths))]
        ranges = max(len(tables), 1)
        bounds = [np.uint64(number * ((1 << 64) // ranges)) for number in range(1, ranges)]
        for band in range(self.bands):
            cuts = [[0, *np.searchsorted(keys[band], bounds), keys.shape[1]] for keys, _ in tables]
            for number in range(ranges if tables else 0):
                slices = [slice(cut[number], cut[number + 1]) for cut in cuts]
                places = np.concatenate([table[1][band, piece] for table, piece in zip(tables, slices, strict=True)])
                keys = np.concatenate([table[0][band, piece] for table, piece in zip(tables, slices, strict=True)])
                wanted = meets[places]
                yield band, _grouped(keys[wanted], places[wanted], ranks)

    def _open(self, number: int) -> tuple[Keys, Places]:
        shape = (self.bands, self._lengths[number])
        return (
            np.memmap(self._path("keys", number), np.uint64, "r", shape=shape),
            np.memmap(self._path("places", number), np.int64, "r", shape=shape),
        )

    def _path(self, what: str, number: int) -> Path:
        return self.folder / f"{what}-{number:05d}.bin"


def _grouped(keys: Keys, places: Places, ranks: Places) -> Buckets:
    order = np.argsort(keys, kind="stable")
    keys, places = keys[order], places[order]
    # Most keys are met once: only the others are put in the order of their ranks.
    again = np.zeros(len(keys) + 1, np.bool_)
    again[1:-1] = keys[1:] == keys[:-1]
    shared = again[:-1] | again[1:]
    keys, places = keys[shared], places[shared]
    order = np.lexsort((ranks[places], keys))
    keys, places = keys[order], places[order]
    starts = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
    return Buckets(places, np.append(starts, len(places)), keys[starts])
