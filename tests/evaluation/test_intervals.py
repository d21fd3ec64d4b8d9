"""Intervals: deterministic, around their estimate, and as wide as the data say."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluation.intervals import (
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_statistic,
    bootstrap_strata,
    interval_of_mean,
    wilson,
)

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.lists(numbers, min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_a_bootstrap_is_the_same_each_time_and_stays_within_the_values(values: Any, seed: int) -> None:
    mean, low, high = bootstrap_mean(values, seed=seed, resamples=100)
    assert (mean, low, high) == bootstrap_mean(values, seed=seed, resamples=100)
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert min(values) - slack <= low <= high <= max(values) + slack
    assert mean == pytest.approx(np.mean(values))


def test_a_bootstrap_interval_covers_the_true_mean_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(7)
    intervals = [bootstrap_mean(rng.normal(3.0, 1.0, 60), seed=place, resamples=400) for place in range(300)]
    covered = np.mean([low <= 3.0 <= high for _, low, high in intervals])
    assert 0.90 <= covered <= 0.98


def test_a_bootstrap_of_many_values_is_drawn_in_blocks_of_bounded_size() -> None:
    values = np.linspace(0, 1, 3_000_000)
    mean, low, high = bootstrap_mean(values, seed=1, resamples=3)
    assert low <= high
    assert mean == pytest.approx(0.5)


def test_a_ratio_is_of_sums_and_not_a_mean_of_ratios() -> None:
    value, low, high = bootstrap_ratio([1.0, 30.0], [1.0, 10.0], seed=1)
    assert value == pytest.approx(31 / 11)
    assert 1.0 <= low <= high <= 3.0


def test_a_statistic_of_items_agrees_with_the_mean_of_numbers() -> None:
    values = [float(number) for number in range(20)]
    assert bootstrap_statistic(values, np.mean, seed=3) == pytest.approx(bootstrap_mean(values, seed=3))


def test_strata_count_by_size_or_alike() -> None:
    strata = {"few": [1.0, 1.0], "many": [0.0] * 8}
    assert bootstrap_strata(strata, seed=1)[0] == pytest.approx(0.2)
    assert bootstrap_strata(strata, weights={"few": 1.0, "many": 1.0}, seed=1)[0] == pytest.approx(0.5)


def test_strata_of_one_item_each_still_have_a_width() -> None:
    strata = {str(place): [float(place % 2)] for place in range(20)}
    value, low, high = bootstrap_strata(strata, seed=1)
    assert value == pytest.approx(0.5)
    assert low < 0.4 < 0.6 < high


@pytest.mark.parametrize("values", [[], [float("nan")], [[1.0], [2.0]]])
def test_what_has_no_mean_has_no_interval(values: Any) -> None:
    with pytest.raises(ValueError, match="an interval needs"):
        bootstrap_mean(values, seed=0)


def test_wilson_agrees_with_the_published_example() -> None:
    share, low, high = wilson(15, 148)  # Newcombe 1998, table I, method 3
    assert share == pytest.approx(15 / 148)
    assert (round(low, 4), round(high, 4)) == (0.0624, 0.1605)


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_share_and_stays_a_proportion(n: int, data: st.DataObject) -> None:
    share, low, high = wilson(data.draw(st.integers(0, n)), n)
    assert 0.0 <= low <= share <= high <= 1.0
    assert low < high


def test_answers_that_are_all_wrong_are_not_certain() -> None:
    assert interval_of_mean([0.0] * 10, seed=1)[2] == pytest.approx(wilson(0, 10)[2])
    assert interval_of_mean([0.0, 2.0], seed=1)[0] == 1.0


def test_a_proportion_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no proportion"):
        wilson(0, 0)
