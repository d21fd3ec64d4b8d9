"""Loss as a function of parameters and tokens, fitted to a ladder: L = E + A / N^alpha + B / D^beta.

Approach 3 of Hoffmann et al., "Training compute-optimal large language models" (arXiv:2203.15556): the Huber loss of
the difference of logarithms, summed and not averaged, by L-BFGS from many starts until it no longer moves, as Besiroglu
et al., "Chinchilla scaling: a replication attempt" (arXiv:2404.10102), found that it has to be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from pipelines.planning.ladder import Rung
from pipelines.planning.prediction import Interval

Floats = NDArray[np.float64]

DELTA = 1e-3
"""Beyond it a difference counts by its size and no longer by its square; Hoffmann et al."""
STARTS = 24
"""Best points of the grid from which the fit descends."""
SHARES = (0.1, 0.3, 0.6)
EXPONENTS = (0.1, 0.3, 0.6, 1.0)
"""The grid: what each term is of the loss amid the ladder, and how fast it falls."""
BOUNDS = (*((-15.0, 10.0),) * 3, *((0.01, 3.0),) * 2)
"""Of the terms amid the ladder, as logarithms, and of the exponents."""
RESAMPLES = 200
LEVEL = 0.95
FIGURES = 5


@dataclass(frozen=True)
class Law:
    """The five figures of a fit."""

    log_a: float
    log_b: float
    log_e: float
    alpha: float
    beta: float

    def log_loss(self, parameters: Floats | float, tokens: Floats | float) -> Floats:
        """Return the logarithm of the loss of models of so many parameters after so many tokens."""
        n, d = np.log(np.asarray(parameters, float)), np.log(np.asarray(tokens, float))
        terms = [self.log_a - self.alpha * n, self.log_b - self.beta * d, np.full_like(n + d, self.log_e)]
        summed: Floats = logsumexp(np.stack(np.broadcast_arrays(*terms)), axis=0)
        return summed

    def loss(self, parameters: float, tokens: float) -> float:
        """Return the loss, in nats a token."""
        return float(np.exp(self.log_loss(parameters, tokens)))

    def optimum(self, flops: float) -> tuple[float, float]:
        """Return parameters and tokens of the lowest loss where a parameter and token cost 6 operations."""
        both, budget = self.alpha + self.beta, flops / 6
        ratio = np.exp((np.log(self.alpha) + self.log_a - np.log(self.beta) - self.log_b) / both)
        parameters = float(ratio * budget ** (self.beta / both))
        return parameters, budget / parameters


@dataclass(frozen=True)
class Fit:
    """A law, and what it would have been had other runs of the ladder been drawn."""

    law: Law
    resampled: tuple[Law, ...]
    residuals: tuple[float, ...]
    """Differences of logarithms that the law leaves, widened for its five figures."""

    def interval(self, parameters: float, tokens: float) -> Interval:
        """Return the loss that is expected of a further run, with an interval for how runs scatter as well."""
        noise = np.random.default_rng(0).choice(self.residuals, len(self.resampled))
        logs = np.array([float(law.log_loss(parameters, tokens)) for law in self.resampled]) + noise
        return between(self.law.loss(parameters, tokens), np.exp(logs))

    def optimum(self, flops: float) -> tuple[Interval, Interval]:
        """Return parameters and tokens of the lowest loss, with intervals."""
        found = np.array([law.optimum(flops) for law in self.resampled])
        parameters, tokens = self.law.optimum(flops)
        return between(parameters, found[:, 0]), between(tokens, found[:, 1])

    def figure(self, name: str) -> Interval:
        """Return one of `A`, `B`, `E`, `alpha`, `beta` with its interval."""

        def of(law: Law) -> float:
            return float(
                getattr(law, name) if name in ("alpha", "beta") else np.exp(getattr(law, f"log_{name.lower()}"))
            )

        return between(of(self.law), np.array([of(law) for law in self.resampled]))


def between(value: float, drawn: Floats) -> Interval:
    """Return a figure with the interval that so much of what was drawn lies in."""
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, min(float(low), value), max(float(high), value))


def fit(rungs: Sequence[Rung], seed: int = 0) -> Fit:
    """Return the fit of a ladder, and fits of ladders drawn from it with replacement, which start at the first."""
    runs = np.log([(rung.parameters, rung.tokens, rung.loss) for rung in rungs])
    # Amid the ladder the terms and the exponents hardly depend on each other, which spares the descent its detours.
    middle = np.array([*runs[:, :2].mean(axis=0), 0.0])
    centred = runs - middle
    best = _fitted(centred, _starts(centred))
    law = _law(best, middle)
    residuals = runs[:, 2] - law.log_loss(*np.exp(runs[:, :2]).T)
    residuals *= np.sqrt(len(runs) / (len(runs) - FIGURES))
    generator = np.random.default_rng(seed)
    resampled: list[Law] = []
    while len(resampled) < RESAMPLES:
        drawn = centred[generator.integers(len(runs), size=len(runs))]
        if len(np.unique(drawn, axis=0)) > FIGURES and all(len(np.unique(drawn[:, side])) > 1 for side in (0, 1)):
            resampled.append(_law(_fitted(drawn, best[None]), middle))
    return Fit(law, tuple(resampled), tuple(residuals.tolist()))


def _law(point: Floats, middle: Floats) -> Law:
    """Return the law of a point that was found amid the ladder."""
    log_a, log_b, log_e, alpha, beta = (float(value) for value in point)
    return Law(log_a + alpha * float(middle[0]), log_b + beta * float(middle[1]), log_e, alpha, beta)


def _starts(runs: Floats) -> Floats:
    """Return the points of the grid that fit best."""
    level = float(runs[:, 2].mean())
    terms = [level + float(np.log(share)) for share in SHARES]
    grid = np.array(list(product(terms, terms, terms, EXPONENTS, EXPONENTS)))
    order = np.argsort([_objective(point, runs)[0] for point in grid])
    return grid[order[:STARTS]]


def _fitted(runs: Floats, starts: Floats) -> Floats:
    settings = {"maxiter": 5000, "maxfun": 20_000, "ftol": 1e-12, "gtol": 1e-8}
    found = [
        minimize(_objective, start, args=(runs,), jac=True, method="L-BFGS-B", bounds=BOUNDS, options=settings)
        for start in starts
    ]
    best: Floats = min(found, key=lambda result: float(result.fun)).x
    return best


def _objective(point: Floats, runs: Floats) -> tuple[float, Floats]:
    """Return the summed Huber loss of runs, as logarithms, and its gradient."""
    log_n, log_d, log_l = runs.T
    a, b, e, alpha, beta = point
    terms = np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])
    highest = terms.max(axis=0)
    shares = np.exp(terms - highest)
    total = shares.sum(axis=0)
    apart = np.log(total) + highest - log_l
    shares /= total
    small = np.abs(apart) <= DELTA
    value = np.where(small, apart**2 / 2, DELTA * (np.abs(apart) - DELTA / 2)).sum()
    slope = np.clip(apart, -DELTA, DELTA)
    to_a, to_b, to_e = (slope * shares).sum(axis=1)
    gradient = np.array([to_a, to_b, to_e, -(slope * shares[0] * log_n).sum(), -(slope * shares[1] * log_d).sum()])
    return float(value / DELTA), gradient / DELTA
