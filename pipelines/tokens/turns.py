"""Whose turn it is: an order of corpora that follows their weights at every prefix, found for any sample at once.

**Weights.** Within a period of D turns corpus c, of integer weight m, is to have m turns, D being the sum of the
weights. The turns of a period are those of Tijdeman ("The chairman assignment problem", 1980): of the corpora whose
turns lag behind by at least 1/(2K-2) of one, the one whose lag would soonest exceed 1 - 1/(2K-2) is next. He proves
that then for every n the turns of each of K corpora differ from n * m / D by at most 1 - 1/(2K-2), less than one
sample. At n = D the ideal is the integer m, so the turns are exactly m and the period repeats: the bound holds for
every prefix, and a turn is found by a division. The order is not shuffled: that would break the bound, and which sample
of a corpus comes is drawn by the seed already.

**Limits.** When a corpus has had all its samples, a new phase begins behind its last turn, with the weights of the
others alone and turns counted from there; the bound holds within each phase. There are at most K phases, all known
beforehand.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.artifacts.errors import UserError
from pipelines.tokens.permutation import Integers

MOST_TURNS = 1 << 14
"""A longer period would take memory and seconds for a difference that no model can tell."""


@dataclass(frozen=True)
class Phase:
    """The turns from `start` on, over and over, until another phase starts."""

    start: int
    corpora: NDArray[np.int64]
    """Of each turn of the period."""
    rank: NDArray[np.int64]
    """How many turns the corpus had in the period before this turn."""
    weights: NDArray[np.int64]
    """Turns of each corpus in a period; 0 for one that has left."""
    before: NDArray[np.int64]
    """Turns of each corpus before the phase."""


class Turns:
    """The order of corpora of these weights, each with at most so many samples; None is no limit."""

    def __init__(self, weights: Sequence[float], limits: Sequence[int | None]) -> None:
        whole, limits = integers(weights), list(limits)
        self.phases: list[Phase] = []
        self.total: int | None = None
        """Samples of all corpora together; None where one has no limit."""
        start, before = 0, np.zeros(len(whole), np.int64)
        active = np.ones(len(whole), np.bool_)
        while active.any():
            phase = _phase(start, np.where(active, whole, 0), before)
            self.phases.append(phase)
            last = {number: _turn(phase, number, limits[number]) for number in np.flatnonzero(active).tolist()}
            ends = {turn: number for number, turn in last.items() if turn is not None}
            if not ends:
                return
            start = min(ends) + 1
            before = self.before(start)
            active[ends[start - 1]] = False
        self.total = start

    def locate(self, numbers: Integers) -> tuple[NDArray[np.int64], Integers]:
        """Return of which corpus each global sample is, and its number among the samples of that corpus."""
        corpora, places = np.empty_like(numbers), np.empty_like(numbers)
        starts = np.array([phase.start for phase in self.phases])
        phases = np.searchsorted(starts, numbers, side="right") - 1
        for number in np.unique(phases):
            phase, chosen = self.phases[number], phases == number
            periods, turns = np.divmod(numbers[chosen] - phase.start, len(phase.corpora))
            found = phase.corpora[turns]
            corpora[chosen] = found
            places[chosen] = phase.before[found] + periods * phase.weights[found] + phase.rank[turns]
        return corpora, places

    def before(self, number: int) -> NDArray[np.int64]:
        """Return how many samples of each corpus come before global sample `number`."""
        phase = self.phases[bisect_right([phase.start for phase in self.phases], number) - 1]
        periods, turns = divmod(number - phase.start, len(phase.corpora))
        return phase.before + periods * phase.weights + np.bincount(phase.corpora[:turns], minlength=len(phase.weights))


def integers(weights: Sequence[float]) -> NDArray[np.int64]:
    """Return the smallest integers in the proportion of the decimal numbers; raise UserError where they are large."""
    exact = [Fraction(str(weight)) for weight in weights]
    scale = lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * scale) for weight in exact]
    common = gcd(*whole)
    period = sum(whole) // common
    if period > MOST_TURNS:
        given = ", ".join(f"{weight:g}" for weight in weights)
        raise UserError(
            f"mixture: weights {given} have a common measure only over {period:,} samples, more than {MOST_TURNS:,}; "
            "round them to shares of four digits"
        )
    return np.array(whole) // common


def chairmen(weights: Sequence[int]) -> list[int]:
    """Return a period of turns of these weights, in the order that Tijdeman's rule gives; the first wins a tie."""
    if len(weights) == 1:
        return [0] * weights[0]
    period, parts = sum(weights), 2 * len(weights) - 2
    common = lcm(*weights)
    had = [0] * len(weights)
    turns = []
    for turn in range(1, period + 1):
        # The lag in units of 1 / period, and how soon it is too great in units of 1 / (parts * common).
        lags = [weight * turn - period * count for weight, count in zip(weights, had, strict=True)]
        soonest = min(
            (
                ((period * (parts - 1) - parts * lag) * (common // weight), number)
                for number, (lag, weight) in enumerate(zip(lags, weights, strict=True))
                if lag * parts >= period
            ),
        )[1]
        had[soonest] += 1
        turns.append(soonest)
    return turns


def _phase(start: int, weights: NDArray[np.int64], before: NDArray[np.int64]) -> Phase:
    members = np.flatnonzero(weights)
    common = gcd(*weights[members].tolist())
    weights = weights // common
    corpora = members[chairmen(weights[members].tolist())]
    rank = np.zeros(len(corpora), np.int64)
    for number in members:
        own = corpora == number
        rank[own] = np.arange(own.sum())
    return Phase(start, corpora, rank, weights, before)


def _turn(phase: Phase, corpus: int, limit: int | None) -> int | None:
    """Return the global number of the corpus' last sample; None where it has no limit."""
    if limit is None:
        return None
    periods, rank = divmod(limit - int(phase.before[corpus]) - 1, int(phase.weights[corpus]))
    own: NDArray[Any] = np.flatnonzero(phase.corpora == corpus)
    return phase.start + periods * len(phase.corpora) + int(own[rank])
