"""What every algorithm of the tokenizer stage keeps, and that the chain below it runs on each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import AutoTokenizer, LlamaForCausalLM

from pipelines.artifacts.errors import UserError
from pipelines.pretraining.heldout import token_sizes
from pipelines.pretraining.pretrain import PretrainConfig, pretrain
from pipelines.serving.engine import Engine
from pipelines.tokens.digest import tokenizer_digest
from pipelines.tokens.encoding import encode, load
from pipelines.tokens.shard import ShardConfig, shard
from pipelines.tokens.tokenizer import TokenizerConfig, tokenizer
from tests.tokens.test_tokenizer import contents, prose, write

ALGORITHMS = ("bpe", "wordpiece", "unigram")
EXTRA = ("<|fim_prefix|>", "<|tool|>")


def config(algorithm: str, **changes: object) -> TokenizerConfig:
    return TokenizerConfig.model_validate(
        {"algorithm": algorithm, "vocab_size": 320, "special_tokens": EXTRA, **changes}
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("corpus"), [prose(seed, 400) for seed in range(40)])


@pytest.fixture(scope="module", params=ALGORITHMS)
def out(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp(request.param)
    tokenizer(config(request.param), documents=corpus, out=made)
    return made


@given(text=st.one_of(st.text(), st.builds(lambda text, times: text * times, st.text(max_size=3), st.integers(1, 900))))
def test_every_algorithm_restores_any_text(out: Path, text: str) -> None:
    learnt = load(out / "tokenizer")
    for whole in (text, f"\0{text}🏳️‍🌈e\u0301\u0301<|bos|>"):
        ids = encode(learnt, [whole])[0]
        assert not len(ids) or ids.min() >= 8
        assert learnt.decode(ids.tolist(), skip_special_tokens=False) == whole


def test_special_tokens_have_the_first_ids_and_transformers_keeps_the_digest(out: Path, tmp_path: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(out / "tokenizer")
    assert len(loaded) == 320
    assert loaded.convert_ids_to_tokens(list(range(8)))[5:] == ["<|end|>", *EXTRA]
    assert loaded("<|tool|>")["input_ids"] == [7]
    text = " Kato  , mi.\n\n\tLun 12345 é 日本 ."
    assert loaded.decode(loaded(text)["input_ids"]) == text
    loaded.save_pretrained(tmp_path)
    assert tokenizer_digest(tmp_path) == tokenizer_digest(out / "tokenizer")


def test_a_token_is_as_long_as_its_bytes(out: Path) -> None:
    learnt = load(out / "tokenizer")
    ids = encode(learnt, ["to the 日本 mi"])[0].tolist()
    assert int(token_sizes(out / "tokenizer")[ids].sum()) == len("to the 日本 mi".encode())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_algorithm_gives_the_same_bytes_in_another_process(algorithm: str, corpus: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from pipelines.tokens.tokenizer import *;"
        "tokenizer(TokenizerConfig(algorithm=sys.argv[3], vocab_size=320), documents=Path(sys.argv[1]),"
        "out=Path(sys.argv[2]))"
    )
    for number in ("1", "4"):
        environment = {"PYTHONHASHSEED": number, "RAYON_NUM_THREADS": number}
        arguments = [sys.executable, "-c", script, str(corpus), str(tmp_path / number), algorithm]
        subprocess.run(arguments, check=True, env=environment, cwd=Path(__file__).parents[2])
    assert contents(tmp_path / "1") == contents(tmp_path / "4")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_chain_of_shards_training_and_generation_runs(algorithm: str, corpus: Path, tmp_path: Path) -> None:
    tokenizer(config(algorithm), documents=corpus, out=tmp_path / "t")
    made = tmp_path / "t" / "tokenizer"
    shard(ShardConfig(heldout_fraction=0.2), documents=corpus, tokenizer=made, out=tmp_path / "s")
    pretrain(
        PretrainConfig(size="tiny", sequence_length=32, global_batch=2, micro_batch=2, max_steps=3, warmup_steps=1),
        train=tmp_path / "s" / "train",
        heldout=tmp_path / "s" / "heldout",
        tokenizer=made,
        out=tmp_path / "p",
    )
    folder = tmp_path / "p" / "model"
    prompt = AutoTokenizer.from_pretrained(folder)("kato mi", return_tensors="pt")
    ids = LlamaForCausalLM.from_pretrained(folder).generate(**prompt, max_new_tokens=4, do_sample=False)
    assert ids.shape[1] > prompt["input_ids"].shape[1]
    assert Engine(folder).vocabulary[-1]


@pytest.mark.parametrize("whitespace", ["runs", "single"])
def test_the_whitespace_rule_says_how_many_blanks_one_token_holds(whitespace: str, tmp_path: Path) -> None:
    texts = [("    \n\n\n\n" * 50) + prose(seed) for seed in range(4)]
    made = config("bpe", whitespace=whitespace)
    tokenizer(made, documents=write(tmp_path / "in", texts), out=tmp_path / "out")
    found = len(encode(load(tmp_path / "out" / "tokenizer"), ["    \n\n\n\n"])[0])
    assert found == 8 if whitespace == "single" else found < 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"special_tokens": ("<|bos|>",)}, "in every vocabulary already"),
        ({"special_tokens": ("<|x|>", "<|x|>")}, "given twice"),
        ({"special_tokens": ("the",)}, "not of the form"),
        ({"vocab_size": 263, "special_tokens": EXTRA}, "below the 264"),
        ({"algorithm": "unigram", "sample_bytes": 4_000_000_000}, "suffix array"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TokenizerConfig.model_validate(changes)


@pytest.mark.parametrize("algorithm", ["wordpiece", "unigram"])
def test_a_corpus_too_small_names_the_size_that_it_reaches(algorithm: str, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vocab_size: 50,000 is more than this corpus yields") as raised:
        tokenizer(config(algorithm, vocab_size=50_000), documents=corpus, out=tmp_path / "out")
    reached = int(str(raised.value).split("at most ")[1].split()[0].replace(",", ""))
    metrics = tokenizer(config(algorithm, vocab_size=reached), documents=corpus, out=tmp_path / "again")
    assert metrics["vocab_size"] == reached


def test_documents_without_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text to learn from"):
        tokenizer(config("bpe"), documents=write(tmp_path / "in", ["", ""]), out=tmp_path / "out")


def test_quality_is_told_by_source(out: Path) -> None:
    quality = json.loads((out / "quality" / "quality.json").read_text())
    assert sum(share["bytes"] for share in quality["sources"].values()) == quality["total"]["bytes"]
    assert quality["round_trip"]["probe"] > 4_000
