import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.artifacts.errors import UserError
from pipelines.tokens.loader import Samples, TokenShards
from pipelines.tokens.permutation import permute


def write_shards(folder: Path, tokens: int, per_file: int, dtype: str = "uint16") -> Path:
    """Write a split whose id at position `p` is `p`."""
    folder.mkdir(parents=True)
    ids = np.arange(tokens, dtype="<u2" if dtype == "uint16" else "<u4")
    shards = []
    for number, start in enumerate(range(0, tokens, per_file)):
        piece = ids[start : start + per_file]
        (folder / f"shard-{number:05d}.bin").write_bytes(piece.tobytes())
        shards.append({"file": f"shard-{number:05d}.bin", "tokens": len(piece), "sha256": ""})
    index = {
        "dtype": dtype,
        "vocab_size": tokens,
        "tokenizer_digest": "abc",
        "documents": 1,
        "tokens": tokens,
        "bytes": 3 * tokens,
        "shards": shards,
    }
    (folder / "index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards") / "train", tokens=1003, per_file=100)


def test_the_figures_of_the_index_are_read(folder: Path) -> None:
    shards = TokenShards(folder)
    assert (shards.tokens, shards.bytes, shards.vocab_size, shards.tokenizer_digest) == (1003, 3009, 1003, "abc")
    assert len(shards) == 1003


@given(start=st.integers(0, 1003), length=st.integers(0, 1003))
def test_a_window_crosses_files(folder: Path, start: int, length: int) -> None:
    shards = TokenShards(folder)
    if start + length > 1003:
        with pytest.raises(IndexError, match="outside the 1,003"):
            shards.window(start, length)
    else:
        assert shards.window(start, length).tolist() == list(range(start, start + length))


def test_ids_above_65535_are_read_from_uint32(tmp_path: Path) -> None:
    shards = TokenShards(write_shards(tmp_path / "wide", tokens=70_000, per_file=30_000, dtype="uint32"))
    assert shards.window(69_998, 2).tolist() == [69_998, 69_999]


def test_every_token_is_seen_once_an_epoch_but_the_stated_tail(folder: Path) -> None:
    samples = Samples(TokenShards(folder), sequence_length=10, seed=3)
    assert len(samples) == 100
    for epoch in range(3):
        drawn = [samples.sample(epoch * 100 + position) for position in range(100)]
        inputs = Counter(int(token) for sample in drawn for token in sample[:-1])
        targets = Counter(int(token) for sample in drawn for token in sample[1:])
        assert inputs == Counter(range(1000))
        assert targets == Counter(range(1, 1001))


def test_epochs_and_seeds_have_their_own_order(folder: Path) -> None:
    shards = TokenShards(folder)
    orders = {
        tuple(samples.window_of(epoch * 100 + position) for position in range(100))
        for seed in range(3)
        for samples in [Samples(shards, sequence_length=10, seed=seed)]
        for epoch in range(3)
    }
    assert len(orders) == 9


@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_order_of_samples_is_the_same_at_any_world_size(folder: Path, world: int) -> None:
    whole = Samples(TokenShards(folder), sequence_length=10, seed=3)
    ranks = [Samples(TokenShards(folder), sequence_length=10, seed=3) for _ in range(world)]
    for step in range(30):
        inputs, targets = whole.batch(step, 8)
        share = 8 // world
        parts = [samples.take(step * 8 + rank * share, share) for rank, samples in enumerate(ranks)]
        assert torch.equal(inputs, torch.cat([part[0] for part in parts]))
        assert torch.equal(targets, torch.cat([part[1] for part in parts]))


def test_a_resumed_loader_goes_on_where_it_stopped(folder: Path) -> None:
    before = Samples(TokenShards(folder), sequence_length=10, seed=3)
    seen = [before.batch(step, 8)[0] for step in range(30)]
    after = Samples(TokenShards(folder), sequence_length=10, seed=3)
    assert all(torch.equal(after.batch(step, 8)[0], seen[step]) for step in range(11, 30))


def test_targets_follow_inputs_by_one(folder: Path) -> None:
    inputs, targets = Samples(TokenShards(folder), sequence_length=10, seed=3).batch(0, 4)
    assert inputs.shape == targets.shape == (4, 10)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(inputs + 1, targets)


def test_the_order_of_samples_never_changes_between_versions(folder: Path) -> None:
    samples = Samples(TokenShards(folder), sequence_length=10, seed=3)
    assert [samples.window_of(index) for index in [0, 1, 2, 99, 100]] == [60, 49, 22, 16, 70]


@given(size=st.integers(1, 300), seed=st.integers(0, 2**63), epoch=st.integers(0, 2**40))
def test_a_permutation_reaches_every_place_once(size: int, seed: int, epoch: int) -> None:
    assert sorted(permute(place, size, seed=seed, epoch=epoch) for place in range(size)) == list(range(size))


def test_a_permutation_is_even_over_places() -> None:
    landed = Counter(permute(0, 10, seed=seed, epoch=0) for seed in range(10_000))
    assert all(850 < landed[place] < 1150 for place in range(10))


def test_a_permutation_leaves_few_neighbours_together() -> None:
    order = [permute(place, 10_000, seed=1, epoch=0) for place in range(10_000)]
    assert sum(abs(one - two) == 1 for one, two in pairwise(order)) < 20


def test_a_split_shorter_than_a_sample_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match="make it shorter or give more text"):
        Samples(TokenShards(folder), sequence_length=1003, seed=0)
    assert len(Samples(TokenShards(folder), sequence_length=1002, seed=0)) == 1


def test_an_odd_byte_count_is_named(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "train", tokens=10, per_file=10)
    (folder / "shard-00000.bin").write_bytes(b"\0" * 19)
    with pytest.raises(UserError, match="holds 19 bytes, no whole number of uint16"):
        TokenShards(folder)


@pytest.mark.parametrize("held", [0, 8, 12])
def test_a_file_of_another_length_is_named(tmp_path: Path, held: int) -> None:
    folder = write_shards(tmp_path / "train", tokens=10, per_file=5)
    (folder / "shard-00001.bin").write_bytes(b"\0" * held)
    with pytest.raises(UserError, match=rf"shard-00001\.bin holds {held // 2} tokens and the index promises 5"):
        TokenShards(folder)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "train", tokens=10, per_file=5)
    (folder / "shard-00001.bin").unlink()
    with pytest.raises(UserError, match=r"shard-00001\.bin holds 0 tokens"):
        TokenShards(folder)


def test_an_index_that_promises_more_than_it_lists_is_named(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "train", tokens=10, per_file=5)
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, "tokens": 11}))
    with pytest.raises(UserError, match="promises 11 tokens and lists 10"):
        TokenShards(folder)


@pytest.mark.parametrize("content", ["", "{}", '{"dtype": "int7"}', "[]"])
def test_a_damaged_index_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(UserError, match="cannot be read"):
        TokenShards(tmp_path)


def test_an_absent_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        TokenShards(tmp_path)
