import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.artifacts.errors import UserError
from pipelines.tokens.turns import Turns, chairmen, integers

WEIGHTS = st.lists(st.integers(1, 40), min_size=1, max_size=6)
LIMITED = st.lists(st.tuples(st.integers(1, 12), st.none() | st.integers(1, 60)), min_size=1, max_size=5)


@given(weights=WEIGHTS, samples=st.integers(1, 600))
def test_shares_follow_the_weights_at_every_prefix_to_within_one_sample(weights: list[int], samples: int) -> None:
    corpora, _ = Turns([float(weight) for weight in weights], [None] * len(weights)).locate(np.arange(samples))
    ideal = np.arange(1, samples + 1)[:, np.newaxis] * np.array(weights) / sum(weights)
    had = (corpora[:, np.newaxis] == np.arange(len(weights))).cumsum(axis=0)
    bound = 1 - 1 / (2 * len(weights) - 2) if len(weights) > 1 else 0
    assert np.abs(had - ideal).max() <= bound + 1e-9


@given(weights=WEIGHTS)
def test_a_period_has_each_corpus_as_often_as_its_weight(weights: list[int]) -> None:
    assert np.bincount(chairmen(weights)).tolist() == weights


@given(corpora=LIMITED)
def test_no_corpus_goes_beyond_its_limit_and_each_sample_has_its_own_number(
    corpora: list[tuple[int, int | None]],
) -> None:
    weights, limits = [float(weight) for weight, _ in corpora], [limit for _, limit in corpora]
    turns = Turns(weights, limits)
    bounded = None not in limits
    assert turns.total == (sum(limit or 0 for limit in limits) if bounded else None)
    whose, places = turns.locate(np.arange(turns.total or 400))
    for number, limit in enumerate(limits):
        own = places[whose == number]
        assert own.tolist() == list(range(len(own))), "in order, none twice and none left out"
        assert limit is None or len(own) <= limit
        assert not bounded or len(own) == limit


@given(corpora=LIMITED)
def test_shares_follow_the_weights_of_those_who_are_left(corpora: list[tuple[int, int | None]]) -> None:
    turns = Turns([float(weight) for weight, _ in corpora], [limit for _, limit in corpora])
    ends = [phase.start for phase in turns.phases[1:]] + [turns.total or turns.phases[-1].start + 300]
    for phase, end in zip(turns.phases, ends, strict=True):
        whose, _ = turns.locate(np.arange(phase.start, end))
        weights = np.array([weight if phase.weights[number] else 0 for number, (weight, _) in enumerate(corpora)])
        ideal = np.arange(1, end - phase.start + 1)[:, np.newaxis] * weights / weights.sum()
        had = (whose[:, np.newaxis] == np.arange(len(corpora))).cumsum(axis=0)
        assert np.abs(had - ideal).max() < 1


@given(corpora=LIMITED, number=st.integers(0, 300))
def test_a_sample_is_found_without_those_before_it(corpora: list[tuple[int, int | None]], number: int) -> None:
    turns = Turns([float(weight) for weight, _ in corpora], [limit for _, limit in corpora])
    if turns.total is not None and number >= turns.total:
        return
    whose, places = turns.locate(np.arange(number + 1))
    alone = turns.locate(np.array([number]))
    assert (alone[0][0], alone[1][0]) == (whose[-1], places[-1])
    assert turns.before(number).tolist() == np.bincount(whose[:-1], minlength=len(corpora)).tolist()


def test_a_sample_far_away_costs_no_more() -> None:
    turns = Turns([0.7, 0.2, 0.1], [None, 10**9, None])
    whose, places = turns.locate(np.array([10**12, 10**15]))
    assert (places >= 0).all() and set(whose.tolist()) <= {0, 2}, "the second corpus has long left"


def test_decimal_weights_are_taken_exactly() -> None:
    assert integers([0.7, 0.2, 0.1]).tolist() == [7, 2, 1]
    assert integers([1.0, 1.0]).tolist() == [1, 1]
    assert integers([3e-05, 1e-05]).tolist() == [3, 1]


def test_weights_that_hardly_have_a_common_measure_are_named() -> None:
    with pytest.raises(UserError, match=r"weights 0\.123457, 0\.333333 .*round them to shares of four digits"):
        integers([0.123456789, 0.333333333])


def test_the_turns_never_change_between_versions() -> None:
    assert chairmen([3, 2, 1]) == [0, 1, 0, 2, 1, 0]
    assert Turns([1.0, 1.0], [2, None]).locate(np.arange(6))[0].tolist() == [0, 1, 0, 1, 1, 1]
