"""From candidates to clusters: each pair that meets in a band is compared exactly before it is linked."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.corpus.minhash import Signatures
from pipelines.corpus.ngrams import Hashes

FIRST_CHUNK = 4
MOST_SHINGLES = 1 << 20
"""Shingles compared at once with one document's: 8 MiB, unless a single document has more."""


class ShingleFile:
    """The shingle sets of all documents in one memory-mapped file."""

    def __init__(self, path: Path, sizes: NDArray[np.int64]) -> None:
        self.sizes = sizes
        self._ends = np.cumsum(sizes)
        self._all = np.memmap(path, np.uint64, "r") if sizes.any() else np.empty(0, np.uint64)

    def __getitem__(self, document: int) -> Hashes:
        end = self._ends[document]
        return self._all[end - self.sizes[document] : end]

    def similarities(self, one: int, others: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the exact Jaccard similarity of `one` with each of `others`, none of which is empty."""
        shingles = self[one]
        joined = np.concatenate([self[other] for other in others])
        places = np.searchsorted(shingles, joined)
        places[places == len(shingles)] = 0
        sizes = self.sizes[others]
        common = np.add.reduceat(shingles[places] == joined, np.cumsum(sizes) - sizes, dtype=np.int64)
        return np.asarray(common / (len(shingles) + sizes - common))


class Linker:
    """Union-find over the pairs whose similarity was computed and is at the threshold or above."""

    def __init__(self, signatures: Signatures, shingles: ShingleFile, rows: int, threshold: float) -> None:
        self.signatures, self.shingles, self.rows, self.threshold = signatures, shingles, rows, threshold
        self.candidates = self.verified = 0
        self._parent = list(range(len(signatures)))

    def find(self, document: int) -> int:
        """Return the document that names the cluster."""
        parent = self._parent
        while parent[document] != document:
            parent[document] = parent[parent[document]]
            document = parent[document]
        return document

    def link(self, band: int, bucket: list[int]) -> None:
        """Link the documents of a bucket that are near-duplicates.

        Documents that are linked already are not compared again, so that a bucket of one cluster takes linear time.
        """
        groups: list[list[int]] = []
        for document in bucket:
            near = [group for group in groups if self._belongs(document, group, band)]
            for group in near:
                self._parent[self.find(group[0])] = self.find(document)
            if len(near) > 1:
                merged = {id(group) for group in near[1:]}
                near[0].extend(member for group in near[1:] for member in group)
                groups = [group for group in groups if id(group) not in merged]
            if near:
                near[0].append(document)
            else:
                groups.append([document])

    def _belongs(self, document: int, group: list[int], band: int) -> bool:
        """Return whether the document is linked to the group, or a near-duplicate of a member."""
        return self.find(document) == self.find(group[0]) or any(
            (self.shingles.similarities(document, members) >= self.threshold).any()
            for members in self._to_compare(document, group, band)
        )

    def _to_compare(self, document: int, group: list[int], band: int) -> Iterator[NDArray[np.int64]]:
        """Yield the members that the document was not compared with before and may resemble, in growing chunks."""
        start, length = 0, FIRST_CHUNK
        size = self.shingles.sizes[document]
        while start < len(group):
            members = np.array(group[start : start + length])
            members = members[~self._met_before(document, members, band)]
            self.candidates += len(members)
            sizes = self.shingles.sizes[members]
            # Sets of such sizes cannot reach the threshold, whatever they hold.
            members = members[np.minimum(sizes, size) / np.maximum(sizes, size) >= self.threshold]
            self.verified += len(members)
            if len(members):
                yield from _bounded(members, self.shingles.sizes[members])
            start, length = start + length, length * 2

    def _met_before(self, document: int, members: NDArray[np.int64], band: int) -> NDArray[np.bool_]:
        """Return with which members the document shares an earlier band, in which the pair was compared."""
        columns = band * self.rows
        equal = self.signatures[members, :columns] == self.signatures[document, :columns]
        return np.asarray(equal.reshape(len(members), band, self.rows).all(axis=2).any(axis=1))


def _bounded(members: NDArray[np.int64], sizes: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield the members in pieces whose shingles are a bounded number."""
    piece = np.cumsum(sizes) // MOST_SHINGLES
    yield from np.split(members, np.flatnonzero(np.diff(piece)) + 1)
