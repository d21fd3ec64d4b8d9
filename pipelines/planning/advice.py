"""What a budget of operations buys: the size, the tokens and the learning rate that a ladder speaks for."""

from collections import defaultdict
from dataclasses import dataclass
from typing import get_args

import numpy as np

from pipelines.models.sizes import SizeName
from pipelines.planning.counts import counts_of
from pipelines.planning.ladder import Ladder, Rung
from pipelines.planning.prediction import Interval
from pipelines.planning.scaling_law import Fit, fit

CHINCHILLA_TOKENS = 20
"""Tokens a parameter by the rule of thumb from Hoffmann et al. (2022)."""
FAR = 100.0
"""Times the dearest run's operations beyond which a fit is told to be far from what it has seen."""


@dataclass(frozen=True)
class Choice:
    """A row of the table of sizes, trained as long as a budget allows."""

    size: str
    parameters: int
    tokens: int
    loss: Interval


@dataclass(frozen=True)
class Rate:
    """A learning rate and where it is from."""

    lr: float
    why: str


@dataclass(frozen=True)
class Advice:
    """What is to be trained for a budget."""

    flops: float
    parameters: Interval
    tokens: Interval
    """The lowest loss over all sizes, by the fit."""
    chosen: Choice
    """Of the sizes that there are."""
    rate: Rate
    chinchilla_parameters: float
    chinchilla: Choice
    """The size nearest to what 20 tokens a parameter make of the budget."""
    is_far: bool


@dataclass(frozen=True)
class Trial:
    """A fit and what it foretold of the dearest run, which it has not seen."""

    fit: Fit
    fitted: tuple[Rung, ...]
    test: Rung
    expected: Interval

    @property
    def holds(self) -> bool:
        """Whether the run's loss lies in the interval."""
        return self.expected.low <= self.test.loss <= self.expected.high


def trial_of(ladder: Ladder) -> Trial:
    """Fit all runs but the dearest, and foretell that one."""
    fitted, test = ladder.split()
    found = fit(fitted)
    return Trial(found, fitted, test, found.interval(test.parameters, test.tokens))


def advise(ladder: Ladder, found: Trial, flops: float) -> Advice:
    """Return what to train with so many operations."""
    choices = [_choice(ladder, found.fit, size, flops) for size in get_args(SizeName)]
    chosen = min(choices, key=lambda choice: choice.loss.value)
    parameters, tokens = found.fit.optimum(flops)
    by_rule = (flops / 6 / CHINCHILLA_TOKENS) ** 0.5
    nearest = min(choices, key=lambda choice: abs(np.log(choice.parameters / by_rule)))
    dearest = max(rung.flops for rung in ladder.rungs)
    return Advice(
        flops, parameters, tokens, chosen, rate_for(ladder, chosen.parameters), by_rule, nearest, flops > FAR * dearest
    )


def _choice(ladder: Ladder, found: Fit, size: SizeName, flops: float) -> Choice:
    counts = counts_of(ladder.config.model_copy(update={"size": size}), ladder.vocab_size)
    tokens = round(flops * counts.tokens / counts.flops)
    return Choice(size, counts.parameters, tokens, found.interval(counts.parameters, max(tokens, 1)))


def rate_for(ladder: Ladder, parameters: int) -> Rate:
    """Return a learning rate for a model of so many parameters.

    Where three sizes or more were trained at several rates, it lies on the line through the logarithms of their best
    ones; else it is that of the best run of the nearest size.
    """
    swept: defaultdict[tuple[int, int], list[Rung]] = defaultdict(list)
    for rung in ladder.rungs:
        swept[rung.parameters, rung.tokens].append(rung)
    best = {
        size: min(rungs, key=lambda rung: rung.loss)
        for (size, _), rungs in sorted(swept.items(), reverse=True)
        if len({rung.lr for rung in rungs}) > 1
    }
    if len(best) < 3:
        nearest = min(ladder.best(), key=lambda rung: (abs(np.log(rung.parameters / parameters)), rung.loss))
        return Rate(
            nearest.lr, f"that of the nearest run, {nearest.size}; no three sizes were trained at several rates"
        )
    slope, height = np.polyfit(np.log(list(best)), np.log([rung.lr for rung in best.values()]), 1)
    edges = sorted({rung.size for size, rung in best.items() if _at_the_edge(rung, swept)})
    told = f"the line through the best of {len(best)} sizes"
    told += f"; the best of {', '.join(edges)} was at the edge of what was tried" if edges else ""
    return Rate(float(np.exp(height + slope * np.log(parameters))), told)


def _at_the_edge(rung: Rung, swept: dict[tuple[int, int], list[Rung]]) -> bool:
    rates = [other.lr for other in swept[rung.parameters, rung.tokens]]
    return rung.lr in (min(rates), max(rates))
