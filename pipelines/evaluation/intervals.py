"""Confidence intervals: a bootstrap of a mean, alone or over strata, and Wilson's interval of a proportion."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float, float]
"""An estimate, and the low and the high end of its confidence interval."""

DRAWS_AT_ONCE = 1 << 20
"""Indices in memory at once: 8 MB, whatever the number of values and resamples."""


def bootstrap_mean(values: ArrayLike, *, seed: int, resamples: int = 1000, confidence: float = 0.95) -> Interval:
    """Return the mean of the values and its percentile bootstrap interval (Efron 1979).

    The same values in the same order and the same seed give the same interval. Raises ValueError where there is no
    value or one is not finite.
    """
    sample = _checked(values)
    draws = _resampled_means(sample, np.random.default_rng(seed), resamples)
    return _interval(float(sample.mean()), draws, confidence)


def bootstrap_ratio(
    numerators: ArrayLike, denominators: ArrayLike, *, seed: int, resamples: int = 1000, confidence: float = 0.95
) -> Interval:
    """Return sum of numerators over sum of denominators, items resampled in pairs: bits over bytes, say."""
    top, bottom = _checked(numerators), _checked(denominators)
    if len(top) != len(bottom) or bottom.sum() <= 0:
        raise ValueError("a ratio needs a denominator for each numerator, and their sum above 0")
    chosen = np.random.default_rng(seed)
    draws = np.concatenate(
        [top[drawn].sum(axis=1) / bottom[drawn].sum(axis=1) for drawn in _drawn(len(top), chosen, resamples)]
    )
    return _interval(float(top.sum() / bottom.sum()), draws, confidence)


def bootstrap_strata(
    strata: Mapping[str, ArrayLike],
    *,
    seed: int,
    weights: Mapping[str, float] | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Return the weighted mean of the strata's means, each stratum resampled within itself.

    Without weights a stratum counts by its size, as a subject of MMLU does. One item says nothing of its stratum's
    spread, so where a stratum has a single one, items are resampled across strata.
    """
    samples = {name: _checked(strata[name]) for name in sorted(strata)}
    sizes = weights or {name: float(len(sample)) for name, sample in samples.items()}
    total = sum(sizes[name] for name in samples)
    if min(map(len, samples.values())) < 2:
        shares = np.concatenate([np.full(len(s), sizes[name] / total / len(s)) for name, s in samples.items()])
        values = np.concatenate(list(samples.values()))
        return bootstrap_ratio(values * shares, shares, seed=seed, resamples=resamples, confidence=confidence)
    chosen = np.random.default_rng(seed)
    mean, draws = 0.0, np.zeros(resamples)
    for name, sample in samples.items():
        share = sizes[name] / total
        mean += share * float(sample.mean())
        draws += share * _resampled_means(sample, chosen, resamples)
    return _interval(mean, draws, confidence)


def bootstrap_statistic(
    items: Sequence[Any],
    statistic: Callable[[list[Any]], float],
    *,
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Return any statistic of the items with its percentile interval, by one call of `statistic` a resample."""
    chosen = np.random.default_rng(seed)
    draws = [
        statistic([items[place] for place in places])
        for block in _drawn(len(items), chosen, resamples)
        for places in block.tolist()
    ]
    return _interval(float(statistic(list(items))), np.asarray(draws, np.float64), confidence)


def wilson(successes: float, n: int, *, confidence: float = 0.95) -> Interval:
    """Return the proportion and its score interval (Wilson 1927), which is sound at 0, at 1 and for a small `n`."""
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} is no proportion")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def _checked(values: ArrayLike) -> NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample) or not np.isfinite(sample).all():
        raise ValueError("an interval needs at least one value, and every value finite")
    return sample


def _drawn(n: int, rng: np.random.Generator, resamples: int) -> Iterator[NDArray[np.int64]]:
    """Yield the resampled indices, (resamples, n) in all, in blocks of bounded size."""
    rows = max(1, DRAWS_AT_ONCE // n)
    for first in range(0, resamples, rows):
        yield rng.integers(0, n, size=(min(rows, resamples - first), n))


def _resampled_means(sample: NDArray[np.float64], rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    return np.concatenate([sample[drawn].mean(axis=1) for drawn in _drawn(len(sample), rng, resamples)])


def interval_of_mean(values: Sequence[float], *, seed: int, resamples: int = 1000) -> Interval:
    """Return the mean with Wilson's interval where every value is 0 or 1, with the bootstrap's elsewhere.

    A bootstrap of answers that are all wrong is certain of 0; Wilson's interval knows how few they were.
    """
    if set(values) <= {0, 1}:
        return wilson(sum(values), len(values))
    return bootstrap_mean(values, seed=seed, resamples=resamples)


def _interval(estimate: float, draws: NDArray[np.float64], confidence: float) -> Interval:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return estimate, float(low), float(high)
