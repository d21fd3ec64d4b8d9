import numpy as np
import pytest

from pipelines.corpus.duplicates.minhash import band_keys, choose_bands, meeting_chance, permutations_of

PAIRS = 3_000


def keys_of(pairs: int, common: int, own: int, bands: int, rows: int) -> np.ndarray:
    """The band keys of pairs of sets that share `common` numbers and have `own` apart each."""
    rng = np.random.default_rng(pairs)
    lists = []
    for _ in range(pairs):
        shared = rng.integers(0, 2**64, common, dtype=np.uint64)
        lists += [np.concatenate([shared, rng.integers(0, 2**64, own, dtype=np.uint64)]) for _ in range(2)]
    keys = np.empty((2 * pairs, bands), np.uint64)
    sizes = np.full(2 * pairs, common + own)
    band_keys(np.concatenate(lists), sizes, *permutations_of(1, bands * rows), rows, keys)
    return keys.reshape(pairs, 2, bands)


@pytest.mark.parametrize(
    ("threshold", "common", "own"), [(0.8, 160, 20), (0.8, 16, 2), (0.5, 100, 50), (0.3, 60, 70), (0.95, 190, 5)]
)
def test_pairs_at_the_threshold_meet_almost_surely(threshold: float, common: int, own: int) -> None:
    assert common / (common + 2 * own) == pytest.approx(threshold)
    bands, rows = choose_bands(threshold, 128, 0.999)
    keys = keys_of(PAIRS, common, own, bands, rows)
    assert (keys[:, 0] == keys[:, 1]).any(axis=1).mean() >= 0.998


@pytest.mark.parametrize(("common", "own"), [(100, 50), (120, 40), (60, 70)])
def test_pairs_below_the_threshold_meet_as_often_as_the_curve_says(common: int, own: int) -> None:
    keys = keys_of(PAIRS, common, own, 25, 5)
    met = (keys[:, 0] == keys[:, 1]).any(axis=1).mean()
    assert met == pytest.approx(meeting_chance(common / (common + 2 * own), 25, 5), abs=0.04)


def test_permutations_are_odd_factors_and_a_seed_fixes_them() -> None:
    factors, terms = permutations_of(7, 128)
    assert (factors % 2 == 1).all()
    assert len(set(factors.tolist())) == len(set(terms.tolist())) == 128
    assert (permutations_of(7, 128)[0] == factors).all()
    assert (permutations_of(8, 128)[0] != factors).any()
