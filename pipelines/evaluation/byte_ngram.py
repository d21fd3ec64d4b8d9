"""A byte n-gram model with add-k smoothing: the baseline that a trained model has to beat.

p(b | c) = (count(c b) + k) / (count(c) + 256 k), where c is the n - 1 bytes before b (Lidstone; Chen and Goodman 1999,
section 2.1). A document begins after n - 1 zero bytes.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

SMOOTHING = (1.0, 0.1, 0.01, 0.001)
BLOCK_BYTES = 4 << 20
"""Text that is counted at once; counting takes about thirty times its size in memory."""

Counts = tuple[NDArray[np.uint32], NDArray[np.int64]]
"""Different values in ascending order, and how often each was seen."""


class ByteNgram:
    """Counts of the n-grams of some documents, n at most 4."""

    def __init__(self, documents: Iterable[bytes], order: int = 4) -> None:
        if not 1 <= order <= 4:
            raise ValueError(f"order {order}: a gram of 1 to 4 bytes fits into 32 bits")
        self.order = order
        self.bytes = 0
        self.grams: Counts = _count(np.empty(0, np.uint32))
        for block in _blocks(documents):
            self.bytes += sum(map(len, block))
            self.grams = _merge(self.grams, _count(_codes(block, order)))
        values, counts = self.grams
        self.contexts = _total(values >> np.uint32(8), counts)

    def bits(self, documents: Sequence[bytes], k: float) -> NDArray[np.float64]:
        """Return how many bits each document takes when byte after byte is predicted with add-`k` smoothing."""
        codes = _codes(documents, self.order)
        seen = _look_up(self.grams, codes)
        context = _look_up(self.contexts, codes >> np.uint32(8))
        bits = np.log2(context + 256 * k) - np.log2(seen + k)
        ends = np.cumsum(np.array([0, *map(len, documents)], np.int64))
        return np.diff(np.concatenate([[0.0], np.cumsum(bits)])[ends])

    def best(self, documents: Sequence[bytes]) -> tuple[float, NDArray[np.float64]]:
        """Return the k of `SMOOTHING` that suits these documents best, and each one's bits under it."""
        tried = [(k, self.bits(documents, k)) for k in SMOOTHING]
        return min(tried, key=lambda pair: float(pair[1].sum()))


def _blocks(documents: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the documents in groups of about `BLOCK_BYTES`."""
    block: list[bytes] = []
    size = 0
    for document in documents:
        block.append(document)
        size += len(document)
        if size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _codes(documents: Sequence[bytes], order: int) -> NDArray[np.uint32]:
    """Return, for each byte of each document, it and the `order - 1` bytes before it as one number."""
    padding = bytes(order - 1)
    stream = np.frombuffer(b"".join(padding + document for document in documents), np.uint8).astype(np.uint32)
    codes = stream.copy()
    for back in range(1, order):
        codes[back:] |= stream[:-back] << np.uint32(8 * back)
    lengths = np.array([len(document) + order - 1 for document in documents], np.int64)
    offsets = np.arange(len(stream)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    found: NDArray[np.uint32] = codes[offsets >= order - 1]
    return found


def _count(codes: NDArray[np.uint32]) -> Counts:
    return _total(np.sort(codes), np.ones(len(codes), np.int64))


def _merge(one: Counts, other: Counts) -> Counts:
    values = np.concatenate([one[0], other[0]])
    order = np.argsort(values, kind="stable")
    return _total(values[order], np.concatenate([one[1], other[1]])[order])


def _total(values: NDArray[np.uint32], counts: NDArray[np.int64]) -> Counts:
    """Return the different ones of ascending `values`, each with the sum of its counts."""
    if not len(values):
        return values, counts
    firsts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return values[firsts], np.add.reduceat(counts, firsts)


def _look_up(counts: Counts, wanted: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return how often each wanted value was seen."""
    values, seen = counts
    if not len(values):
        return np.zeros(len(wanted), np.int64)
    places = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    found: NDArray[np.int64] = np.where(values[places] == wanted, seen[places], 0)
    return found
