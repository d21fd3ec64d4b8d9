"""Tests of whether two samples are of one population: each a statistic, an effect size and a p-value."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS_AT_ONCE = 1 << 20
"""Cells of tables in memory at once: 8 MB."""
TERMS = 100
"""Terms of Kolmogorov's series: those behind them are below 1e-15 wherever they are asked for."""
OTHERS = "(others)"


@dataclass(frozen=True)
class Comparison:
    """What a test found."""

    test: str
    statistic: float
    effect: float
    """Between 0 and 1; what chance alone would show is taken off a total variation."""
    p: float


def compare_shares(
    old: Mapping[str, int], fresh: Mapping[str, int], *, categories: int, resamples: int, seed: int
) -> Comparison:
    """Return Pearson's chi-square of homogeneity with its permutation p-value, and the total variation of the shares.

    The table's margins are fixed and the new row is drawn anew (multivariate hypergeometric), so that p is right for
    rare categories, where the chi-square distribution is not. Among many rare ones two samples of one population differ
    much, so the mean total variation of the draws is taken off.
    """
    table = _table(old, fresh, categories)
    totals, (n_old, n_fresh) = table.sum(axis=0), table.sum(axis=1).tolist()
    expected = totals * (n_fresh / (n_old + n_fresh))
    scale = 1 / expected + 1 / (totals - expected)

    def statistics(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        chi_square = ((counts - expected) ** 2 * scale).sum(axis=-1)
        variation = np.abs(counts / n_fresh - (totals - counts) / n_old).sum(axis=-1) / 2
        return chi_square, variation

    found, variation = statistics(table[1])
    rng, least, chance = np.random.default_rng(seed), 0, 0.0
    rows = max(1, DRAWS_AT_ONCE // len(totals))
    for first in range(0, resamples, rows):
        drawn = rng.multivariate_hypergeometric(totals, n_fresh, min(rows, resamples - first), method="marginals")
        chi_squares, variations = statistics(drawn)
        least += int((chi_squares >= found * (1 - 1e-12)).sum())
        chance += float(variations.sum()) / resamples
    effect = max(0.0, float(variation) - chance)
    return Comparison("chi-square, permutation", float(found), effect, (least + 1) / (resamples + 1))


def _table(old: Mapping[str, int], fresh: Mapping[str, int], categories: int) -> NDArray[np.int64]:
    """Return the counts, `[old or new, category]`: the commonest of both together, and all others as one."""
    names = sorted({*old, *fresh}, key=lambda name: (-(old.get(name, 0) + fresh.get(name, 0)), name))
    rows = [[sample.get(name, 0) for name in names] for sample in (old, fresh)]
    cut = [row[:categories] + ([sum(row[categories:])] if row[categories:] else []) for row in rows]
    return np.array(cut, np.int64)


def compare_rise(old: tuple[int, int], fresh: tuple[int, int]) -> Comparison:
    """Return the rise of a share, given as (how many, of how many), and Fisher's exact p-value of such a rise."""
    (held, n_old), (count, n_fresh) = old, fresh
    total, n = held + count, n_old + n_fresh

    def log_choose(of: int, many: int) -> float:
        return math.lgamma(of + 1) - math.lgamma(many + 1) - math.lgamma(of - many + 1)

    all_ways = log_choose(n, n_fresh)
    p = sum(
        math.exp(log_choose(total, many) + log_choose(n - total, n_fresh - many) - all_ways)
        for many in range(count, min(total, n_fresh) + 1)
    )
    rise = count / n_fresh - held / n_old
    return Comparison("Fisher's exact, one-sided", float(count), max(0.0, rise), min(1.0, p))


def compare_distributions(old: ArrayLike, fresh: ArrayLike) -> Comparison:
    """Return the two-sample Kolmogorov-Smirnov distance and its asymptotic p-value with Stephens' correction (1970).

    With ties, as among whole numbers, p is too large and never too small.
    """
    one, other = (np.sort(np.asarray(sample, np.float64)) for sample in (old, fresh))
    both = np.concatenate([one, other])
    shares = [np.searchsorted(sample, both, side="right") / len(sample) for sample in (one, other)]
    distance = float(np.abs(shares[0] - shares[1]).max())
    root = math.sqrt(len(one) * len(other) / (len(one) + len(other)))
    return Comparison("Kolmogorov-Smirnov", distance, distance, kolmogorov(distance * (root + 0.12 + 0.11 / root)))


def kolmogorov(value: float) -> float:
    """Return the chance that Kolmogorov's limit distribution exceeds `value`."""
    if value < 0.2:  # where the series converges slowly; the chance is above 1 - 1e-12
        return 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * k * k * value * value) for k in range(1, TERMS + 1))
    return min(1.0, max(0.0, 2 * math.fsum(terms)))
