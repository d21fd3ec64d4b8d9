"""Token shards of a small text, with a tokenizer of bytes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from pipelines.artifacts.pins import file_digest
from pipelines.tokens.digest import tokenizer_digest
from tests.pretraining.together import ROOT, Ranks

SPECIAL = ("<|bos|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
TEXT = "A mill grinds grain into flour. The miller weighs each sack, and the stone turns with the river. "


@dataclass(frozen=True)
class Inputs:
    """What pre-training reads."""

    train: Path
    heldout: Path
    tokenizer: Path

    def named(self) -> dict[str, Path]:
        return {"train": self.train, "heldout": self.heldout, "tokenizer": self.tokenizer}


def write_tokenizer(folder: Path) -> Tokenizer:
    folder.mkdir(parents=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<|bos|>", "pad_token": "<|pad|>", "eos_token": "<|end|>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    return tokenizer


def write_split(folder: Path, documents: list[str], tokenizer: Path) -> None:
    folder.mkdir(parents=True)
    encoder = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    ids = [number for text in documents for number in (0, *encoder.encode(text).ids)]
    np.array(ids, "<u2").tofile(folder / "shard-00000.bin")
    index = {
        "dtype": "uint16",
        "tokens": len(ids),
        "bytes": sum(len(text.encode()) for text in documents),
        "documents": len(documents),
        "vocab_size": encoder.get_vocab_size(),
        "tokenizer_digest": tokenizer_digest(tokenizer),
        "shards": [{"file": "shard-00000.bin", "tokens": len(ids), "sha256": file_digest(folder / "shard-00000.bin")}],
    }
    starts = [place for place, number in enumerate(ids) if number == 0]
    ends = [*starts[1:], len(ids)]
    spans = [
        {"document_id": f"{folder.name}-{number}", "start": start, "length": end - start}
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]
    pq.write_table(pa.Table.from_pylist(spans), folder / "spans.parquet", row_group_size=3)
    (folder / "index.json").write_text(json.dumps(index))


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Ten short documents to train on and two held out."""
    folder = tmp_path_factory.mktemp("inputs")
    write_tokenizer(folder / "tokenizer")
    write_split(folder / "train", [TEXT * 3 + str(number) for number in range(10)], folder / "tokenizer")
    write_split(folder / "heldout", [TEXT * 2 + str(number) for number in (10, 11)], folder / "tokenizer")
    return Inputs(folder / "train", folder / "heldout", folder / "tokenizer")


@pytest.fixture(scope="session")
def ranks(inputs: Inputs) -> Iterator[Ranks]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.pretraining.ranks"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
    )
    yield Ranks(process, {name: str(path) for name, path in inputs.named().items()})
    assert process.stdin and process.stdout
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


@pytest.fixture(scope="session")
def alone(ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    assert ranks.train(out) == [0]
    return out


@pytest.fixture
def one_thread() -> Iterator[None]:
    """What is so small gains nothing from a second one, and waits for it on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
