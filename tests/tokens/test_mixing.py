from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.artifacts.errors import UserError
from pipelines.pretraining.losses import IGNORED
from pipelines.tokens.loader import Samples, TokenShards
from pipelines.tokens.mixing import Corpus, Mixture, seed_of
from tests.tokens.test_loader import write_shards

LENGTH = 8
SIZES = (8, 61, 200)


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> list[TokenShards]:
    """Corpora of 8, 61 and 200 tokens."""
    folder = tmp_path_factory.mktemp("corpora")
    return [TokenShards(write_shards(folder / str(size), size, per_file=50)) for size in SIZES]


def mixture(splits: list[TokenShards], shares: list[tuple[int, float | None]], seed: int = 0) -> Mixture:
    return Mixture(
        [
            Corpus(Samples(shards, LENGTH, seed_of(seed, number)), *share)
            for number, (shards, share) in enumerate(zip(splits, shares, strict=False))
        ]
    )


SHARES = st.lists(st.tuples(st.integers(1, 9), st.sampled_from([1.0, 2.0, 3.0])), min_size=1, max_size=3)


@given(shares=SHARES, seed=st.integers(0, 2**32 - 1))
def test_to_the_end_every_token_of_every_corpus_is_seen_once_an_epoch(
    splits: list[TokenShards], shares: list[tuple[int, float]], seed: int
) -> None:
    mixed = mixture(splits, list(shares), seed)
    total = mixed.turns.total
    assert total is not None
    inputs, targets = mixed.take(0, total)
    whose, _ = mixed.turns.locate(np.arange(total))
    for number, (size, (_, epochs)) in enumerate(zip(SIZES, shares, strict=False)):
        own = torch.from_numpy(whose == number)
        counted = targets[own] != IGNORED
        expected = sorted([*range(size)] * int(epochs))
        assert sorted(inputs[own][counted].tolist()) == sorted(targets[own][counted].tolist()) == expected
    assert mixed.tokens(0, total) == [size * int(share[1]) for size, share in zip(SIZES, shares, strict=False)]


@given(
    shares=st.lists(st.tuples(st.integers(1, 9), st.none() | st.floats(1, 4)), min_size=1, max_size=3),
    start=st.integers(0, 60),
    count=st.integers(1, 30),
    cut=st.integers(0, 30),
)
def test_a_batch_is_the_same_however_it_is_divided(
    splits: list[TokenShards], shares: list[tuple[int, float | None]], start: int, count: int, cut: int
) -> None:
    mixed, other = mixture(splits, shares), mixture(splits, shares)
    if mixed.turns.total is not None and start + count > mixed.turns.total:
        return
    cut = min(cut, count)
    whole = mixed.take(start, count)
    first, second = other.take(start, cut), other.take(start + cut, count - cut)
    assert torch.equal(whole[0], torch.cat([first[0], second[0]]))
    assert torch.equal(whole[1], torch.cat([first[1], second[1]]))
    assert sum(mixed.tokens(start, start + count)) == int((whole[1] != IGNORED).sum())
    places = [place for spans in mixed.places(start, count).values() for place in spans]
    assert sum(end - begin for begin, end in places) == int((whole[1] != IGNORED).sum())


def test_a_part_of_an_epoch_is_so_many_samples(splits: list[TokenShards]) -> None:
    assert mixture(splits, [(1, None), (1, 1.5)]).corpora[1].limit == 12, "eight samples, one and a half times"


def test_a_mixture_of_one_is_that_corpus(splits: list[TokenShards]) -> None:
    alone = Samples(splits[2], LENGTH, 5).take(3, 40)
    assert torch.equal(mixture(splits[2:], [(1, None)], seed=5).take(3, 40)[0], alone[0])


def test_a_corpus_that_is_named_twice_has_the_places_of_both(splits: list[TokenShards]) -> None:
    twice = mixture([splits[2], splits[2]], [(1, None), (1, None)])
    assert [len(places) for places in twice.places(0, 10).values()] == [10]


def test_corpora_have_orders_of_their_own() -> None:
    assert seed_of(7, 0) == 7
    assert len({seed_of(seed, number) for seed in (0, 1, 2**32 - 1) for number in range(8)}) == 24
    assert [seed_of(0, 1), seed_of(0, 2)] == [3069472533636442495, 9405607414650848140], (
        "the seeds never change between versions"
    )


def test_beyond_the_end_both_figures_and_the_remedy_are_named(splits: list[TokenShards]) -> None:
    mixed = mixture(splits, [(1, 1.0), (3, 0.5)])
    with pytest.raises(UserError, match=r"have 40 tokens in 5 samples and .* 64 in 8; take at most 4 samples"):
        mixed.require(1, 8)
    with pytest.raises(UserError, match="within max_epochs"):
        mixed.take(4, 2)


def test_the_folder_of_a_corpus_that_gives_nothing_is_named(tmp_path: Path) -> None:
    shards = TokenShards(write_shards(tmp_path / "small", 16, per_file=16))
    with pytest.raises(UserError, match=r"max_epochs 0\.25 of the 2 samples of .*small is none"):
        Mixture([Corpus(Samples(shards, LENGTH, 0), 1.0, 0.25)])
