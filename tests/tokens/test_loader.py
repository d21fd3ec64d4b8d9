import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.artifacts.errors import UserError
from pipelines.pretraining.losses import IGNORED
from pipelines.tokens.loader import PAD_ID, Samples, TokenShards


def write_shards(folder: Path, tokens: int, per_file: int, dtype: str = "uint16") -> Path:
    """Write a split whose id at position `p` is `p`."""
    folder.mkdir(parents=True)
    ids = np.arange(tokens, dtype="<u2" if dtype == "uint16" else "<u4")
    shards = []
    for number, start in enumerate(range(0, tokens, per_file)):
        piece = ids[start : start + per_file]
        (folder / f"shard-{number:05d}.bin").write_bytes(piece.tobytes())
        shards.append(
            {
                "file": f"shard-{number:05d}.bin",
                "tokens": len(piece),
                "sha256": hashlib.sha256(piece.tobytes()).hexdigest(),
            }
        )
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


@settings(max_examples=50)
@given(tokens=st.integers(8, 200), per_file=st.integers(1, 90), length=st.integers(8, 60), seed=st.integers(0, 99))
def test_every_token_is_an_input_once_and_a_target_once_in_every_epoch(
    tokens: int, per_file: int, length: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shards = TokenShards(write_shards(tmp_path_factory.mktemp("any") / "train", tokens, per_file))
    if tokens < length:
        return
    samples = Samples(shards, sequence_length=length, seed=seed)
    for epoch in range(3):
        inputs, targets = samples.take(epoch * len(samples), len(samples))
        assert inputs.shape == targets.shape == (-(-tokens // length), length)
        counted = targets != IGNORED
        assert sorted(inputs[counted].tolist()) == sorted(targets[counted].tolist()) == list(range(tokens))
        assert ((inputs[counted] + 1) % tokens == targets[counted]).all(), "a target is the next token"
        assert (inputs[~counted] == PAD_ID).all()
        assert not (~counted[:, :-1] & counted[:, 1:]).any(), "padding is at the end of a row"


def test_epochs_and_seeds_have_their_own_order(folder: Path) -> None:
    shards = TokenShards(folder)
    orders = {
        tuple(samples.windows_of(np.arange(epoch * 101, epoch * 101 + 101)).tolist())
        for seed in range(3)
        for samples in [Samples(shards, sequence_length=10, seed=seed)]
        for epoch in range(3)
    }
    assert len(orders) == 9


@given(number=st.integers(0, 1000), start=st.integers(0, 500), count=st.integers(1, 64))
def test_a_sample_is_the_same_in_any_batch_of_any_reader(folder: Path, number: int, start: int, count: int) -> None:
    alone = Samples(TokenShards(folder), sequence_length=10, seed=3).take(number, 1)
    within = Samples(TokenShards(folder), sequence_length=10, seed=3).take(start, count)
    if start <= number < start + count:
        assert torch.equal(alone[0][0], within[0][number - start])
        assert torch.equal(alone[1][0], within[1][number - start])


@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_order_of_samples_is_the_same_at_any_world_size(folder: Path, world: int) -> None:
    whole = Samples(TokenShards(folder), sequence_length=10, seed=3)
    ranks = [Samples(TokenShards(folder), sequence_length=10, seed=3) for _ in range(world)]
    for step in range(30):
        inputs, targets = whole.take(step * 8, 8)
        share = 8 // world
        parts = [samples.take(step * 8 + rank * share, share) for rank, samples in enumerate(ranks)]
        assert torch.equal(inputs, torch.cat([part[0] for part in parts]))
        assert torch.equal(targets, torch.cat([part[1] for part in parts]))


def test_the_order_of_samples_never_changes_between_versions(folder: Path) -> None:
    samples = Samples(TokenShards(folder), sequence_length=10, seed=3)
    assert samples.windows_of(np.array([0, 1, 2, 99, 100, 101])).tolist() == [60, 49, 22, 16, 77, 70]


@given(number=st.integers(0, 500))
def test_targets_before_a_sample_are_counted_without_reading_them(folder: Path, number: int) -> None:
    samples = Samples(TokenShards(folder), sequence_length=10, seed=3)
    assert samples.tokens_before(number) == int((samples.take(0, number)[1] != IGNORED).sum())


def test_the_places_of_samples_are_where_their_inputs_lie(folder: Path) -> None:
    samples = Samples(TokenShards(folder), sequence_length=10, seed=3)
    inputs, targets = samples.take(0, 101)
    for (start, end), row, counted in zip(samples.spans(np.arange(101)), inputs, targets != IGNORED, strict=True):
        assert row[counted].tolist() == list(range(start, end))


def test_a_split_shorter_than_a_sample_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match="make it shorter or give more text"):
        Samples(TokenShards(folder), sequence_length=1004, seed=0)
    assert len(Samples(TokenShards(folder), sequence_length=1003, seed=0)) == 1


@given(starts=st.lists(st.integers(0, 1003), max_size=20), length=st.integers(1, 300))
def test_many_windows_at_once_are_the_windows_one_by_one(folder: Path, starts: list[int], length: int) -> None:
    shards = TokenShards(folder)
    inside = np.array([start for start in starts if start + length <= 1003], np.int64)
    rows = shards.rows(inside, length)
    assert rows.tolist() == [shards.window(int(start), length).tolist() for start in inside]


def test_whole_shards_pass_verification(folder: Path) -> None:
    TokenShards(folder).verify()


@pytest.mark.parametrize("promised", ["0" * 64, None])
def test_a_wrong_checksum_is_named(tmp_path: Path, promised: str | None) -> None:
    folder = write_shards(tmp_path / "train", tokens=10, per_file=5)
    index = json.loads((folder / "index.json").read_text())
    index["shards"][1]["sha256"] = promised
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"shard-00001\.bin has checksum .* and the index promises (0000|None).*again"):
        TokenShards(folder).verify()


def test_a_flipped_bit_is_named(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "train", tokens=10, per_file=5)
    data = bytearray((folder / "shard-00000.bin").read_bytes())
    data[3] ^= 1
    (folder / "shard-00000.bin").write_bytes(data)
    with pytest.raises(UserError, match=r"shard-00000\.bin has checksum"):
        TokenShards(folder).verify()


def test_a_vocabulary_that_the_ids_cannot_number_is_named(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "train", tokens=10, per_file=5)
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, "vocab_size": 65_536}))
    TokenShards(folder)
    (folder / "index.json").write_text(json.dumps({**index, "vocab_size": 65_537}))
    with pytest.raises(UserError, match="uint16 ids for a vocabulary of 65,537"):
        TokenShards(folder)


@pytest.mark.parametrize("name", ["../shard-00000.bin", "/etc/passwd", 7, ""])
def test_a_file_outside_the_folder_is_named(tmp_path: Path, name: object) -> None:
    folder = write_shards(tmp_path / "train", tokens=10, per_file=5)
    index = json.loads((folder / "index.json").read_text())
    index["shards"][0]["file"] = name
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="artifacts verify"):
        TokenShards(folder)


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


@pytest.mark.parametrize(
    "content",
    ["", "{}", '{"dtype": "int7"}', "[]", '{"dtype": "uint16", "tokens": 1e999}', "[" * 100_000, "\0", "null"],
    ids=lambda content: content[:12],
)
def test_a_damaged_index_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(UserError, match="cannot be read"):
        TokenShards(tmp_path)


def test_an_absent_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        TokenShards(tmp_path)
