"""Several corpora as one sequence of training samples, a pure function of seed, weights, sizes and sample number."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import floor
from pathlib import Path

import numpy as np
import torch

from pipelines.artifacts.errors import UserError
from pipelines.tokens.loader import Samples, to_batch
from pipelines.tokens.permutation import MASK, mix
from pipelines.tokens.turns import Turns


@dataclass(frozen=True)
class Corpus:
    """A corpus, its weight beside the others, and how often it is seen at most."""

    samples: Samples
    weight: float = 1.0
    max_epochs: float | None = None

    @cached_property
    def limit(self) -> int | None:
        """How many samples are seen at most; raises UserError where that is none."""
        if self.max_epochs is None:
            return None
        samples = floor(Fraction(str(self.max_epochs)) * len(self.samples))
        if not samples:
            raise UserError(
                f"mixture: max_epochs {self.max_epochs:g} of the {len(self.samples):,} samples of "
                f"{self.samples.shards.folder} is none; raise it"
            )
        return samples


class Mixture:
    """The samples of the corpora, in turns by their weights; all are of one length."""

    def __init__(self, corpora: Sequence[Corpus]) -> None:
        self.corpora = corpora
        self.dtype = max((corpus.samples.shards.dtype for corpus in corpora), key=lambda dtype: dtype.itemsize)
        self.turns = Turns([corpus.weight for corpus in corpora], [corpus.limit for corpus in corpora])

    def take(self, start: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets, `[count, sequence_length]` each, of the global samples from `start` on."""
        self.require(start, start + count)
        if len(self.corpora) == 1:
            return self.corpora[0].samples.take(start, count)
        whose, places = self.turns.locate(np.arange(start, start + count))
        ids = np.empty((count, self.corpora[0].samples.sequence_length + 1), self.dtype)
        counts = np.empty(count, np.int64)
        for number in np.unique(whose):
            own = whose == number
            ids[own], counts[own] = self.corpora[number].samples.read(places[own])
        return to_batch(ids, counts)

    def require(self, start: int, stop: int) -> None:
        """Raise UserError unless there are samples up to `stop`."""
        total = self.turns.total
        if total is None or stop <= total:
            return
        tokens = sum(corpus.samples.tokens_before(corpus.limit or 0) for corpus in self.corpora)
        length = self.corpora[0].samples.sequence_length
        raise UserError(
            f"mixture: within max_epochs the corpora have {tokens:,} tokens in {total:,} samples and the run asks for "
            f"{stop * length:,} in {stop:,}; take at most {max(total - start, 0):,} samples, or raise max_epochs"
        )

    def tokens(self, start: int, stop: int) -> list[int]:
        """Return how many targets of each corpus the global samples from `start` to before `stop` have."""
        ends = zip(self.turns.before(start).tolist(), self.turns.before(stop).tolist(), strict=True)
        return [
            corpus.samples.tokens_before(end) - corpus.samples.tokens_before(begin)
            for corpus, (begin, end) in zip(self.corpora, ends, strict=True)
        ]

    def places(self, start: int, count: int) -> dict[Path, list[tuple[int, int]]]:
        """Return by folder from where to where in its stream the inputs of the global samples from `start` on lie."""
        whose, places = self.turns.locate(np.arange(start, start + count))
        found: dict[Path, list[tuple[int, int]]] = {}
        for number in np.unique(whose):
            samples = self.corpora[number].samples
            found.setdefault(samples.shards.folder, []).extend(samples.spans(places[whose == number]))
        return found


def seed_of(seed: int, number: int) -> int:
    """Return the seed of corpus `number`: that of the run for the first, and others for the others."""
    return int(mix(mix(np.array([seed & MASK], np.uint64)) + np.uint64(number))[0]) if number else seed
