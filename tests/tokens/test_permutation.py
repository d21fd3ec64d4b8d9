from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.tokens.permutation import drawn, permute


def order(size: int, seed: int, epoch: int = 0) -> list[int]:
    return list(permute(np.arange(size), size, seed=seed, epochs=np.full(size, epoch)).tolist())


@given(size=st.integers(1, 300), seed=st.integers(0, 2**63), epoch=st.integers(0, 2**40))
def test_a_permutation_reaches_every_place_once(size: int, seed: int, epoch: int) -> None:
    assert sorted(order(size, seed, epoch)) == list(range(size))


@given(size=st.integers(1, 300), seed=st.integers(0, 2**63), epoch=st.integers(0, 2**40))
def test_a_permutation_is_undone_by_its_inverse(size: int, seed: int, epoch: int) -> None:
    gone, epochs = np.array(order(size, seed, epoch)), np.full(size, epoch)
    assert permute(gone, size, seed=seed, epochs=epochs, inverse=True).tolist() == list(range(size))


def test_a_permutation_is_even_over_places() -> None:
    places, epochs = np.zeros(10_000, np.int64), np.arange(10_000)
    landed = Counter(permute(places, 10, seed=0, epochs=epochs).tolist())
    assert all(850 < landed[place] < 1150 for place in range(10))


def test_a_permutation_leaves_few_neighbours_together() -> None:
    steps = np.diff(order(10_000, seed=1))
    assert (np.abs(steps) == 1).sum() < 20


def test_the_order_never_changes_between_versions() -> None:
    assert drawn(np.array([0, 1, 2, 99, 100]), 100, seed=3).tolist() == [60, 49, 22, 16, 70]


@given(numbers=st.lists(st.integers(0, 2**50), max_size=20), size=st.integers(1, 10**9), seed=st.integers(0, 2**32))
def test_a_number_is_drawn_alike_alone_and_among_others(numbers: list[int], size: int, seed: int) -> None:
    together = drawn(np.array(numbers, np.int64), size, seed=seed)
    alone = [drawn(np.array([number]), size, seed=seed)[0] for number in numbers]
    assert together.tolist() == alone


def test_a_place_outside_is_refused() -> None:
    with pytest.raises(IndexError, match="not in a permutation of 3"):
        permute(np.array([0, 3]), 3, seed=0, epochs=np.zeros(2, np.int64))
