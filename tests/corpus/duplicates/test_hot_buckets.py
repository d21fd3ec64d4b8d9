import random
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.corpus.duplicates.band_runs import BandRuns
from pipelines.corpus.duplicates.hot_buckets import HotBuckets
from pipelines.corpus.duplicates.jaccard import COMPARED, MET, Sets, forest_of, least_common, root_of


def sets_of(lists: list[set[int]]) -> Sets:
    ordered = [np.array(sorted(one), np.uint64) * np.uint64(0x9E3779B97F4A7C15) for one in lists]
    sizes = np.array([len(one) for one in ordered], np.int64)
    return Sets(np.concatenate([np.sort(one) for one in ordered]), np.cumsum(sizes), sizes)


def clusters(parents: np.ndarray) -> list[int]:
    return [root_of(parents, document) for document in range(len(parents))]


def linked(lists: list[set[int]], threshold: float) -> set[tuple[int, int]]:
    """The pairs in one cluster by plain single linkage."""
    parent = list(range(len(lists)))

    def find(document: int) -> int:
        return document if parent[document] == document else find(parent[document])

    for one, other in combinations(range(len(lists)), 2):
        common = len(lists[one] & lists[other])
        if common / (len(lists[one]) + len(lists[other]) - common) >= threshold:
            parent[find(one)] = find(other)
    return {pair for pair in combinations(range(len(lists)), 2) if find(pair[0]) == find(pair[1])}


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.5, 0.8, 0.95, 1.0]))
def test_a_large_bucket_is_linked_as_by_all_pairs(seed: int, threshold: float) -> None:
    rng = random.Random(seed)
    bases = [set(rng.sample(range(400), rng.randint(1, 60))) for _ in range(6)]
    lists = [
        set(rng.sample(sorted(base), max(1, len(base) - rng.randrange(6))))
        | set(rng.choices(range(400, 500), k=rng.randrange(9)))
        for base in rng.choices(bases, k=80)
    ]
    forest = forest_of(len(lists))
    HotBuckets(len(lists), forest, sets_of(lists), threshold).join(np.arange(len(lists)))
    found = clusters(forest.parents)
    pairs = {(one, other) for one, other in combinations(range(len(lists)), 2) if found[one] == found[other]}
    assert pairs == linked(lists, threshold)


@pytest.mark.parametrize("own", [30, 60, 120])
def test_letters_of_one_form_with_other_facts_take_linear_work(own: int) -> None:
    form = set(range(180))
    lists = [form | set(range(1_000 * number, 1_000 * number + own)) for number in range(1, 3_001)]
    forest = forest_of(len(lists))
    HotBuckets(len(lists), forest, sets_of(lists), 0.8).join(np.arange(len(lists)))
    assert len(set(clusters(forest.parents))) == len(lists)
    assert forest.counts[MET] <= 10 * len(lists), "the leaders are compared, and hardly anything else"


def test_a_bucket_of_near_equal_documents_and_a_few_strangers_takes_linear_work() -> None:
    form = set(range(200))
    lists = [form | {1_000 + number} for number in range(3_000)]
    lists += [set(range(150)) | set(range(10_000 + 500 * number, 10_080 + 500 * number)) for number in range(30)]
    forest = forest_of(len(lists))
    hot = HotBuckets(len(lists), forest, sets_of(lists), 0.8)
    hot.join(np.arange(len(lists)))
    assert len(set(clusters(forest.parents))) == 31
    assert forest.counts[COMPARED] <= 12 * len(lists)
    before = forest.counts.copy()
    hot.join(np.arange(100, len(lists)))
    assert (forest.counts == before).all(), "documents that were joined once are not compared again"


@given(st.integers(1, 400), st.integers(1, 400), st.floats(0.3, 1))
def test_the_least_common_count_is_the_first_that_reaches_the_threshold(one: int, other: int, threshold: float) -> None:
    least = least_common(one, other, threshold)
    assert least / (one + other - least) >= threshold
    assert (least - 1) / (one + other - least + 1) < threshold


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.lists(st.tuples(*[st.sampled_from([0, 1, 7, 2**63, 2**64 - 1])] * 3), min_size=1, max_size=60),
    run=st.integers(1, 70),
)
def test_buckets_do_not_depend_on_the_length_of_runs(
    tmp_path_factory: pytest.TempPathFactory, keys: list[tuple[int, ...]], run: int
) -> None:
    ranks = np.random.default_rng(len(keys)).permutation(len(keys))
    assert found(tmp_path_factory.mktemp("one"), keys, ranks, 1_000) == found(
        tmp_path_factory.mktemp("many"), keys, ranks, run
    )


def found(folder: Path, keys: list[tuple[int, ...]], ranks: np.ndarray, run: int) -> list[tuple[int, int, list[int]]]:
    runs = BandRuns(folder, 3, run)
    for place, row in enumerate(keys):
        runs.add(np.array([place]), np.array([row], np.uint64))
    runs.flush()
    meets = np.arange(len(keys)) % 5 != 4
    return [
        (
            band,
            int(buckets.keys[number]),
            buckets.documents[buckets.starts[number] : buckets.starts[number + 1]].tolist(),
        )
        for band, buckets in runs.buckets(ranks, meets)
        for number in range(len(buckets.keys))
    ]
