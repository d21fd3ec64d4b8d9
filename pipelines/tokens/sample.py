"""Which documents a tokenizer learns from and which it is measured on: two draws that do not meet."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datatrove.data import Document
from numpy.typing import NDArray

from pipelines.corpus.documents import read_documents
from pipelines.tokens.ranks import lowest, rank
from pipelines.tokens.tokenizer import TokenizerConfig


@dataclass(frozen=True)
class Sample:
    """The two draws, as masks over the documents in the order they lie in; texts are read again each time."""

    source: Path
    learn: NDArray[np.bool_]
    judge: NDArray[np.bool_]
    training_bytes: int

    @property
    def documents(self) -> int:
        """Return how many documents the corpus has."""
        return len(self.learn)

    @property
    def training_documents(self) -> int:
        """Return how many documents are learnt from."""
        return int(self.learn.sum())

    def training(self) -> Iterator[str]:
        """Yield the texts to learn from."""
        return (document.text for document in self._chosen(self.learn, columns=["id", "text"]))

    def unseen(self) -> Iterator[Document]:
        """Yield the documents to measure on; a corpus of one document is measured on that."""
        return self._chosen(self.judge)

    def _chosen(self, mask: NDArray[np.bool_], columns: list[str] | None = None) -> Iterator[Document]:
        found = read_documents(self.source, columns)
        return (document for document, taken in zip(found, mask, strict=True) if taken)


def draw(documents: Path, config: TokenizerConfig) -> Sample:
    """Return the draws that the seed fixes, by document and bounded in bytes of text."""
    ranks, sizes = [], []
    for document in read_documents(documents, columns=["id", "text"]):
        ranks.append(rank(config.seed, document.id))
        sizes.append(len(document.text.encode()))
    order = np.array(ranks, np.uint64)
    size = np.array(sizes, np.int64)
    unseen = lowest(order, config.quality_fraction)
    learn = _first(order, size, ~unseen, config.sample_bytes)
    judge = _first(order, size, unseen if len(order) > 1 else learn, config.quality_bytes)
    return Sample(documents, learn, judge, int(size[learn].sum()))


def _first(
    ranks: NDArray[np.uint64], sizes: NDArray[np.int64], eligible: NDArray[np.bool_], limit: int
) -> NDArray[np.bool_]:
    """Return which eligible documents come first by rank until their bytes reach `limit`; one at least is taken."""
    order = np.argsort(ranks, kind="stable")
    order = order[eligible[order]]
    before = np.cumsum(sizes[order]) - sizes[order]
    taken = np.zeros(len(ranks), np.bool_)
    taken[order[before < limit]] = True
    return taken
