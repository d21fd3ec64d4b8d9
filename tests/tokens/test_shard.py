import hashlib
import json
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.corpus.documents import PROVENANCE, document_id, part_name, write_documents
from pipelines.tokens.digest import tokenizer_digest
from pipelines.tokens.loader import Samples, TokenShards
from pipelines.tokens.shard import ShardConfig, shard
from pipelines.tokens.special import SPECIAL_TOKENS
from pipelines.tokens.split import SplitWriter

CONFIG = ShardConfig(heldout_fraction=0.2, shard_bytes=1_024)


def write_tokenizer(folder: Path, vocab_size: int = 300) -> Path:
    """Write a tokenizer of single bytes, filled up to a size with words that are never met."""
    tokens = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens += [f"unused {number}" for number in range(vocab_size - len(tokens))]
    made = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(SPECIAL_TOKENS))
    folder.mkdir(parents=True)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text("{}\n")
    return folder


def write(folder: Path, rows: Sequence[tuple[str, str]], per_part: int = 10_000) -> Path:
    for number, start in enumerate(range(0, max(len(rows), 1), per_part)):
        documents = [Document(text=text, id=name) for name, text in rows[start : start + per_part]]
        write_documents(folder / part_name(number), folder, PROVENANCE, documents)
    return folder


def rows(count: int) -> list[tuple[str, str]]:
    lengths = random.Random(0)
    return [
        (document_id("sha256:0", number), f"{number} é 日 " + "x" * lengths.randrange(300)) for number in range(count)
    ]


@pytest.fixture(scope="module")
def byte_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer")


@pytest.fixture(scope="module")
def out(byte_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    shard(CONFIG, documents=write(folder / "in", rows(100)), tokenizer=byte_tokenizer, out=folder / "out")
    return folder / "out"


def spans(folder: Path) -> list[dict[str, int | str]]:
    return list(pq.read_table(folder / "spans.parquet").to_pylist())


def index(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "index.json").read_text()))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and ".progress" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_every_document_is_in_one_split_and_its_span_gives_its_text(out: Path, byte_tokenizer: Path) -> None:
    decoder = Tokenizer.from_file(str(byte_tokenizer / "tokenizer.json"))
    found = {}
    for name in ("train", "heldout"):
        shards = TokenShards(out / name)
        end = 0
        for span in spans(out / name):
            assert span["start"] == end
            ids = shards.window(int(span["start"]), int(span["length"]))
            assert ids[0] == 0, "a document begins with <|bos|>"
            assert span["document_id"] not in found
            found[span["document_id"]] = decoder.decode(ids[1:].tolist(), skip_special_tokens=False)
            end += int(span["length"])
        assert end == shards.tokens
    assert found == dict(rows(100))


def test_the_index_describes_the_files(out: Path, byte_tokenizer: Path) -> None:
    for name in ("train", "heldout"):
        told = index(out / name)
        assert (told["split"], told["dtype"], told["vocab_size"], told["seed"]) == (name, "uint16", 300, 0)
        assert told["tokenizer_digest"] == tokenizer_digest(byte_tokenizer)
        ids = {span["document_id"] for span in spans(out / name)}
        assert told["documents"] == len(ids)
        assert told["bytes"] == sum(len(text.encode()) for document, text in rows(100) if document in ids)
        listed = told["shards"]
        assert isinstance(listed, list)
        assert sorted(path.name for path in (out / name).glob("*.bin")) == [entry["file"] for entry in listed]
        for entry in listed:
            data = (out / name / entry["file"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (2 * entry["tokens"], entry["sha256"])
            assert len(data) <= 1_024
        assert sum(entry["tokens"] for entry in listed) == told["tokens"]
        assert all(entry["tokens"] == 512 for entry in listed[:-1]), "only the last file is short"


def test_the_metrics_are_the_sums_of_both_splits(tmp_path: Path, byte_tokenizer: Path) -> None:
    metrics = shard(CONFIG, documents=write(tmp_path / "in", rows(50)), tokenizer=byte_tokenizer, out=tmp_path / "out")
    train, heldout = (TokenShards(tmp_path / "out" / name) for name in ("train", "heldout"))
    assert metrics["in"] == metrics["kept"] == 50
    assert (metrics["tokens.train"], metrics["tokens.heldout"]) == (train.tokens, heldout.tokens)
    assert (metrics["bytes.train"], metrics["bytes.heldout"]) == (train.bytes, heldout.bytes)
    assert metrics["documents.train"] + metrics["documents.heldout"] == 50
    assert train.tokens + heldout.tokens == train.bytes + heldout.bytes + 50, "a byte a token, and <|bos|>"


def test_markers_in_a_text_become_no_control_ids(tmp_path: Path, byte_tokenizer: Path) -> None:
    texts = [("a", "<|end|><|bos|> and <|user|>"), ("b", "plain"), ("c", "<|pad|>")]
    shard(CONFIG, documents=write(tmp_path / "in", texts), tokenizer=byte_tokenizer, out=tmp_path / "out")
    for name in ("train", "heldout"):
        shards = TokenShards(tmp_path / "out" / name)
        control = np.flatnonzero(shards.window(0, shards.tokens) < len(SPECIAL_TOKENS))
        assert control.tolist() == [span["start"] for span in spans(tmp_path / "out" / name)]


def test_the_bytes_depend_on_neither_order_nor_parts(out: Path, tmp_path: Path, byte_tokenizer: Path) -> None:
    shuffled = random.Random(1).sample(rows(100), 100)
    shard(CONFIG, documents=write(tmp_path / "in", shuffled, 7), tokenizer=byte_tokenizer, out=tmp_path / "out")
    assert contents(tmp_path / "out") == contents(out)


def test_documents_lie_in_no_crawl_order(out: Path) -> None:
    places = {name: number for number, (name, _) in enumerate(rows(100))}
    order = [places[str(span["document_id"])] for span in spans(out / "train")]
    assert order != sorted(order)
    assert sum(one < other for one, other in pairwise(order)) < 0.7 * len(order)


def test_a_document_keeps_its_split_when_others_come(tmp_path: Path, byte_tokenizer: Path, out: Path) -> None:
    shard(CONFIG, documents=write(tmp_path / "in", rows(200)), tokenizer=byte_tokenizer, out=tmp_path / "out")
    for name in ("train", "heldout"):
        before = {span["document_id"] for span in spans(out / name)}
        assert before <= {span["document_id"] for span in spans(tmp_path / "out" / name)}


def test_another_seed_is_another_split(tmp_path: Path, byte_tokenizer: Path, out: Path) -> None:
    documents = write(tmp_path / "in", rows(100))
    shard(CONFIG.model_copy(update={"seed": 1}), documents=documents, tokenizer=byte_tokenizer, out=tmp_path / "out")
    held = [{span["document_id"] for span in spans(folder / "heldout")} for folder in (out, tmp_path / "out")]
    assert held[0] != held[1]
    assert all(8 <= len(ids) <= 35 for ids in held)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_neither_split_is_empty(tmp_path: Path, byte_tokenizer: Path, count: int) -> None:
    for number, fraction in enumerate((0.0001, 0.5)):
        config = ShardConfig(heldout_fraction=fraction)
        documents = write(tmp_path / f"in{number}", rows(count))
        metrics = shard(config, documents=documents, tokenizer=byte_tokenizer, out=tmp_path / f"out{number}")
        assert min(metrics["documents.train"], metrics["documents.heldout"]) >= 1


def test_a_document_longer_than_a_file_goes_on_in_the_next(tmp_path: Path, byte_tokenizer: Path) -> None:
    texts = [("a", "y" * 3_000), ("b", "z" * 3_000)]
    shard(CONFIG, documents=write(tmp_path / "in", texts), tokenizer=byte_tokenizer, out=tmp_path / "out")
    assert len(list((tmp_path / "out" / "train").glob("*.bin"))) == 6
    assert len(set(TokenShards(tmp_path / "out" / "train").window(1, 3_000).tolist())) == 1


def test_a_large_vocabulary_is_written_in_32_bits(tmp_path: Path) -> None:
    for size, dtype in ((65_536, "uint16"), (65_537, "uint32")):
        wide = write_tokenizer(tmp_path / dtype / "tokenizer", size)
        documents = write(tmp_path / dtype / "in", rows(4))
        shard(CONFIG, documents=documents, tokenizer=wide, out=tmp_path / dtype / "out")
        assert index(tmp_path / dtype / "out" / "train")["dtype"] == dtype
        assert TokenShards(tmp_path / dtype / "out" / "train").window(0, 1)[0] == 0


def test_an_empty_document_is_its_bos_alone(tmp_path: Path, byte_tokenizer: Path) -> None:
    metrics = shard(
        CONFIG, documents=write(tmp_path / "in", [("a", ""), ("b", "")]), tokenizer=byte_tokenizer, out=tmp_path / "out"
    )
    assert (metrics["tokens.train"], metrics["tokens.heldout"], metrics["bytes.train"]) == (1, 1, 0)


def test_the_tokenizer_is_copied(out: Path, byte_tokenizer: Path) -> None:
    assert contents(out / "tokenizer") == contents(byte_tokenizer)


def test_the_shards_feed_the_loader(out: Path) -> None:
    inputs, targets = Samples(TokenShards(out / "train"), sequence_length=32, seed=0).take(0, 4)
    assert inputs.shape == targets.shape == (4, 32)


def test_no_index_is_left_by_a_writer_that_failed(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="disk"),
        SplitWriter(tmp_path / "train", tmp_path, "<u2", 1_024, {}) as writer,
    ):
        writer.write(["a"], np.zeros(2_000, np.uint16), np.array([2_000]), 1)
        raise RuntimeError("disk")
    assert not (tmp_path / "train" / "index.json").exists()


def test_one_document_cannot_be_split(tmp_path: Path, byte_tokenizer: Path) -> None:
    with pytest.raises(UserError, match="give more documents"):
        shard(CONFIG, documents=write(tmp_path / "in", rows(1)), tokenizer=byte_tokenizer, out=tmp_path / "out")


def test_no_documents_are_an_empty_output(tmp_path: Path, byte_tokenizer: Path) -> None:
    with pytest.raises(EmptyOutput, match="shard: no document is left"):
        shard(CONFIG, documents=write(tmp_path / "in", []), tokenizer=byte_tokenizer, out=tmp_path / "out")


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be read"):
        shard(CONFIG, documents=write(tmp_path / "in", rows(3)), tokenizer=tmp_path, out=tmp_path / "out")


def test_a_tokenizer_without_bos_is_named(tmp_path: Path) -> None:
    Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match=r"has no <\|bos\|>"):
        shard(CONFIG, documents=write(tmp_path / "in", rows(3)), tokenizer=tmp_path, out=tmp_path / "out")
