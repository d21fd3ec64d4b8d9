import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from datatrove.data import Document
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pipelines.tokens import control
from pipelines.tokens.control import Control
from pipelines.tokens.encoding import Encoder, encode, load
from pipelines.tokens.shard import ShardConfig, shard
from pipelines.tokens.tokenizer import TokenizerConfig, tokenizer
from pipelines.tokens.twin import Twin, doubtful, has_long_run, twin_of
from tests.tokens.test_shard import contents
from tests.tokens.test_tokenizer import prose, write


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [f"{prose(seed)}\n\n  I'LL {seed}5678 {'x' * seed * 3} é 日本語" for seed in range(40)]
    return write(tmp_path_factory.mktemp("corpus"), texts)


@pytest.fixture(scope="module", params=["runs", "single"])
def learnt(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    made = tmp_path_factory.mktemp("tokenizer")
    tokenizer(TokenizerConfig(vocab_size=400, whitespace=request.param), documents=corpus, out=made)
    return load(made / "tokenizer")


@cache
def cached_twin(described: str) -> Twin:
    tokenizer = Tokenizer.from_str(described)
    tokenizer.encode_special_tokens = True
    twin = twin_of(tokenizer)
    assert twin
    return twin


PIECES = st.sampled_from(
    ["ka", "TO", "'s", "'\u017f", "'LL", " ", "\r\n", "\t", "7", "²", "=", "é", "\u0301", "日", "<|bos|>"]
)
RUNS = st.builds(lambda piece, times: piece * times, PIECES, st.integers(1, 140))


@settings(max_examples=150)
@given(text=st.one_of(st.text(), st.lists(st.one_of(PIECES, RUNS), max_size=12).map("".join)))
def test_tiktoken_gives_the_ids_of_tokenizers_on_any_text_it_is_trusted_with(learnt: Tokenizer, text: str) -> None:
    twin = cached_twin(learnt.to_str())
    if twin.trusts(text):
        assert np.array_equal(twin.encode(text), encode(learnt, [text])[0])
    else:
        assert max(text) >= "\U00040000"


def test_the_engines_class_every_code_point_that_is_compared_alike() -> None:
    assert not doubtful().search("\u017f日é\u0301\U0001f3f3\U0003ffff")
    assert doubtful().search("\U00040000")


@pytest.mark.parametrize("run", ["a" * 65, " " * 65, "=" * 65, "é" * 33, "\n" * 65, "a" * 70 + "."])
def test_a_long_run_is_never_missed(run: str) -> None:
    assert has_long_run(f"some {run} text".encode())
    assert not has_long_run(b"a word, 12 numbers, " * 20)


def test_a_tokenizer_whose_merges_or_cuts_are_not_proved_has_no_twin(learnt: Tokenizer) -> None:
    def changed(**model: object) -> Tokenizer:
        described = json.loads(learnt.to_str())
        described["model"].update(model)
        return Tokenizer.from_str(json.dumps(described))

    described = json.loads(learnt.to_str())
    merges = described["model"]["merges"]
    assert twin_of(changed(merges=[*merges[1:], merges[0]])) is None
    assert twin_of(changed(dropout=0.5)) is None
    described["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+|\W+"
    assert twin_of(Tokenizer.from_str(json.dumps(described))) is None


def test_a_difference_in_the_control_sends_the_whole_corpus_to_tokenizers(
    corpus: Path, learnt: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t").mkdir()
    learnt.save(str(tmp_path / "t" / "tokenizer.json"))
    real = Encoder.of
    bare = Twin(r"(?s).", {bytes([byte]): byte + 6 for byte in range(256)}, {})
    built = {}
    for name, of in (("sound", real), ("broken", lambda tokenizer: Encoder(tokenizer, bare))):
        monkeypatch.setattr(Encoder, "of", of)
        out = tmp_path / name
        metrics = shard(ShardConfig(), documents=corpus, tokenizer=tmp_path / "t", out=out)
        built[name] = {file: data for file, data in contents(out).items() if not file.endswith("index.json")}
        assert metrics["encoding.tiktoken"] == (40 if name == "sound" else 0)
        index = json.loads((out / "train" / "index.json").read_text())
        assert index["encoding"]["tokenizers"] == metrics["encoding.tokenizers"] == 40 - metrics["encoding.tiktoken"]
    assert built["sound"] == built["broken"]


def test_a_document_of_doubtful_characters_is_encoded_by_tokenizers(learnt: Tokenizer) -> None:
    documents = [Document(text=text, id=text) for text in ("plain", "tag \U000e0041", "more")]
    found = Encoder.of(learnt).encode(documents)
    assert found.by_tiktoken == 2
    assert [learnt.decode(ids.tolist()) for ids in found.ids] == [document.text for document in documents]


def test_the_bytes_do_not_depend_on_the_number_of_workers(corpus: Path, learnt: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    learnt.save(str(tmp_path / "t" / "tokenizer.json"))
    for workers in (1, 3):
        shard(ShardConfig(workers=workers), documents=corpus, tokenizer=tmp_path / "t", out=tmp_path / str(workers))
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_the_control_holds_the_lowest_ranks_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CONTROL_BYTES", 10)
    found = []
    for order in (range(9), reversed(range(9))):
        held = Control()
        for number in order:
            held.offer(number * 7 % 9, "four", np.array([number], np.uint32))
        found.append((len(held), held.bytes, sorted(-item[0] for item in held._held)))
    assert found[0] == found[1] == (3, 12, [0, 1, 2])
