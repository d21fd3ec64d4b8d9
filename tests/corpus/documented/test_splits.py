"""Clusters of near-equal texts are exact, and no split cuts one."""

from collections import Counter
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.corpus.documented.clusters import clusters, normalised, quoted, shingles, split_of, words
from pipelines.corpus.documented.harvest import split_objects
from pipelines.corpus.documented.objects import DocObject
from pipelines.tokens.ranks import rank

WORDS = st.sampled_from(["return", "the", "mean", "sum", "of", "a", "an", "array", "rows", "as", "new", "copy", "in"])
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=9).map(" ".join), max_size=40)
THRESHOLDS = st.sampled_from([0.3, 0.5, 0.6, 0.7, 0.8, 1.0])
FRACTIONS = {"test": 0.3, "heldout": 0.3}


def similarity(one: str, two: str) -> float:
    left, right = shingles(normalised(one)), shingles(normalised(two))
    return len(left & right) / len(left | right)


def brute_force(texts: list[str], threshold: float) -> list[str]:
    """Clusters by comparing every pair."""
    root = list(range(len(texts)))
    for left, right in combinations(range(len(texts)), 2):
        if similarity(texts[left], texts[right]) >= threshold - 1e-9:
            old, new = root[right], root[left]
            root = [new if at == old else at for at in root]
    return [min(normalised(text) for text, at in zip(texts, root, strict=True) if at == mine) for mine in root]


def made(name: str, text: str, docstring: str = "") -> DocObject:
    return DocObject(name, name, "function", "p", "p.m", "p.m", f"{name}()", text, docstring or text, "p/m.py", 1)


@settings(max_examples=50)
@given(TEXTS, THRESHOLDS)
def test_clusters_are_those_of_comparing_every_pair(texts: list[str], threshold: float) -> None:
    assert clusters(texts, threshold) == brute_force(texts, threshold)


@settings(max_examples=50)
@given(TEXTS, THRESHOLDS)
def test_clusters_do_not_depend_on_the_order(texts: list[str], threshold: float) -> None:
    mixed = sorted(texts, key=lambda text: rank(7, text))
    assert dict(zip(texts, clusters(texts, threshold), strict=True)) == dict(
        zip(mixed, clusters(mixed, threshold), strict=True)
    )


def test_punctuation_and_case_make_no_difference() -> None:
    one, two = clusters(["Return the mean, of rows.", "return THE mean of rows"], 1.0)
    assert one == two


@settings(max_examples=50)
@given(TEXTS, THRESHOLDS, st.integers(0, 2**32 - 1))
def test_no_near_equal_summaries_are_in_different_splits(texts: list[str], threshold: float, seed: int) -> None:
    objects = [made(f"f{index}", text) for index, text in enumerate(texts)]
    split = split_objects(objects, threshold=threshold, seed=seed, fractions=FRACTIONS, counts=Counter())
    for one, two in combinations(split, 2):
        if one.split != two.split:
            assert similarity(one.found.summary, two.found.summary) < threshold


@settings(max_examples=50)
@given(TEXTS.map(lambda texts: [f"{text} now then" for text in texts]), st.integers(0, 2**32 - 1))
def test_no_text_quotes_a_summary_of_another_split(texts: list[str], seed: int) -> None:
    quoting = [f"{text}.\n\nSee also: {texts[rank(seed, text) % len(texts)]}" for text in texts]
    objects = [made(f"f{index}", text, quoting[index]) for index, text in enumerate(texts)]
    split = split_objects(objects, threshold=0.7, seed=seed, fractions=FRACTIONS, counts=Counter())
    for one in split:
        if one.split != "train":
            inside = f" {' '.join(words(one.found.summary))} "
            others = [two for two in split if two.cluster != one.cluster]
            assert not [two for two in others if inside in f" {' '.join(words(two.found.docstring))} "]


def test_a_near_quote_is_a_quote() -> None:
    summary = "Return the largest eigenvalue of a symmetric matrix."
    page = "Solve it.\n\nSee eigvals: return the largest eigenvalue of a symmetric real matrix, which is slow."
    assert quoted([summary, ""], ["a", "b"], [summary, page], 0.7) == {"a"}
    assert quoted([summary, ""], ["a", "a"], [summary, page], 0.7) == set()
    assert quoted([summary, ""], ["a", "b"], [summary, "Return the smallest number of a list."], 0.7) == set()


def test_splits_have_about_the_shares_asked_for() -> None:
    shares = Counter(split_of(f"text {index}", 3, {"test": 0.1, "heldout": 0.2}) for index in range(5000))
    assert 400 < shares["test"] < 600
    assert 850 < shares["heldout"] < 1150


def test_another_seed_makes_another_split() -> None:
    drawn = [[split_of(f"text {index}", seed, FRACTIONS) for index in range(50)] for seed in (1, 2)]
    assert drawn[0] != drawn[1]
