"""The tests of drift against scipy's, and against chance."""

import math

import numpy as np
import pytest
from scipy import stats

from pipelines.corpus.two_samples import Comparison, compare_distributions, compare_rise, compare_shares, kolmogorov


def shares(old: dict[str, int], fresh: dict[str, int], categories: int = 100, resamples: int = 4_000) -> Comparison:
    return compare_shares(old, fresh, categories=categories, resamples=resamples, seed=1)


def test_chi_square_and_its_p_value_are_those_of_scipy_where_counts_are_many() -> None:
    old, fresh = {"en": 900, "fr": 60, "de": 40}, {"en": 430, "fr": 45, "de": 25}
    found = shares(old, fresh)
    known = stats.chi2_contingency(np.array([list(old.values()), list(fresh.values())]), correction=False)
    assert found.statistic == pytest.approx(known.statistic)
    assert found.p == pytest.approx(known.pvalue, abs=0.01)


def test_many_rare_sources_drawn_from_one_population_are_no_drift() -> None:
    rng = np.random.default_rng(5)
    weights = 1 / np.arange(1, 3_001)
    draws = [rng.choice(3_000, 400, p=weights / weights.sum()) for _ in range(2)]
    old, fresh = (
        {str(name): int(count) for name, count in zip(*np.unique(d, return_counts=True), strict=True)} for d in draws
    )
    names = old.keys() | fresh.keys()
    plain = sum(abs(old.get(name, 0) - fresh.get(name, 0)) for name in names) / 800
    found = shares(old, fresh, categories=1_000)
    assert plain > 0.3, "a total variation that is not corrected looks like drift"
    assert found.effect < 0.05


def test_false_alarms_are_no_commoner_than_alpha_says() -> None:
    rng = np.random.default_rng(11)
    alarms = 0
    for _ in range(300):
        draws = [rng.multinomial(size, [0.7, 0.2, 0.07, 0.03]).tolist() for size in (200, 40)]
        old, fresh = (dict(zip("abcd", draw, strict=True)) for draw in draws)
        alarms += shares(old, fresh, resamples=400).p < 0.05
    assert alarms <= stats.binom.ppf(0.999, 300, 0.05)


def test_a_category_that_only_new_documents_have_is_an_effect_of_its_share() -> None:
    found = shares({"en": 1_000}, {"en": 700, "xx": 300})
    assert found.effect == pytest.approx(0.3, abs=0.03)
    assert found.p == pytest.approx(1 / 4_001)


def test_categories_beyond_the_limit_count_as_one() -> None:
    many = {str(number): 1 for number in range(50)}
    assert shares(many, many, categories=3).statistic == 0
    assert shares({"a": 5}, {"a": 5}).effect == 0, "one category alone cannot drift"


@pytest.mark.parametrize(("old", "fresh"), [((3, 900), (9, 100)), ((0, 1_000), (3, 40)), ((5, 50), (5, 50))])
def test_the_rise_of_a_share_has_fishers_exact_p_value(old: tuple[int, int], fresh: tuple[int, int]) -> None:
    table = [[fresh[0], fresh[1] - fresh[0]], [old[0], old[1] - old[0]]]
    assert compare_rise(old, fresh).p == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue)


def test_a_share_that_falls_is_no_effect() -> None:
    found = compare_rise((500, 1_000), (0, 1_000))
    assert found.effect == 0 and found.p == pytest.approx(1)


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.6])
def test_the_distance_of_kolmogorov_and_smirnov_is_scipys(shift: float) -> None:
    rng = np.random.default_rng(3)
    old, fresh = rng.normal(size=400), rng.normal(shift, size=150)
    found, known = compare_distributions(old, fresh), stats.ks_2samp(old, fresh, method="exact")
    assert found.effect == pytest.approx(known.statistic)
    assert found.p == pytest.approx(known.pvalue, rel=0.3, abs=0.01)


def test_the_limit_distribution_is_kolmogorovs() -> None:
    for value in (0.05, 0.2, 0.5, 1.0, 2.0):
        assert kolmogorov(value) == pytest.approx(stats.kstwobign.sf(value), abs=1e-9)
    assert math.isclose(kolmogorov(0), 1)
