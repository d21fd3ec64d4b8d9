import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from datatrove.data import Document
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.corpus.documents import PROVENANCE, document_id, part_name, write_documents
from pipelines.tokens.digest import tokenizer_digest
from pipelines.tokens.encoding import encode, load
from pipelines.tokens.tokenizer import TokenizerConfig, tokenizer

SCHEMA = PROVENANCE.append(pa.field("language", pa.string()))
CONFIG = TokenizerConfig(vocab_size=400)
SPECIAL = ["<|bos|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]


def prose(seed: int, length: int = 200) -> str:
    rng = random.Random(seed)
    syllables = ["ka", "to", "mi", "re", "lun", "sar", "bel", "dor"]
    return " ".join("".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(length))


def write(folder: Path, texts: Sequence[str], per_part: int = 10_000) -> Path:
    documents = [
        Document(text=text, id=document_id("sha256:0", number), metadata={"language": "en" if number % 3 else "tok"})
        for number, text in enumerate(texts)
    ]
    for number, start in enumerate(range(0, max(len(texts), 1), per_part)):
        write_documents(folder / part_name(number), folder, SCHEMA, documents[start : start + per_part])
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("corpus"), [prose(seed) for seed in range(60)])


@pytest.fixture(scope="module")
def out(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tokenizer")
    tokenizer(CONFIG, documents=corpus, out=made)
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.json"))}


def test_the_special_tokens_have_the_first_ids(out: Path) -> None:
    learnt = Tokenizer.from_file(str(out / "tokenizer" / "tokenizer.json"))
    assert [learnt.id_to_token(number) for number in range(6)] == SPECIAL
    assert learnt.get_vocab_size() == 400
    added = json.loads((out / "tokenizer" / "tokenizer.json").read_text())["added_tokens"]
    assert [(token["id"], token["content"], token["special"]) for token in added] == [
        (number, token, True) for number, token in enumerate(SPECIAL)
    ]


def test_transformers_loads_it_with_its_special_tokens(out: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(out / "tokenizer")
    assert len(loaded) == 400
    assert (loaded.bos_token, loaded.eos_token, loaded.pad_token) == ("<|bos|>", "<|end|>", "<|pad|>")
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id, loaded.unk_token_id) == (0, 5, 1, None)
    assert loaded.model_max_length > 10**9
    assert sorted(loaded.all_special_ids) == list(range(6))


def test_transformers_adds_no_token_and_decodes_what_it_encodes(out: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(out / "tokenizer")
    text = " Kato  , mi.\n\n\tLun 12345 é 日本 ."
    assert loaded.decode(loaded(text)["input_ids"]) == text
    assert loaded(text)["input_ids"] == encode(load(out / "tokenizer"), [text])[0].tolist()
    assert loaded("<|user|>")["input_ids"] == [3]


def test_its_digest_survives_being_saved_by_transformers(out: Path, tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(out / "tokenizer").save_pretrained(tmp_path)
    assert tokenizer_digest(tmp_path) == tokenizer_digest(out / "tokenizer")


@given(text=st.text())
def test_any_text_is_restored_from_its_tokens(out: Path, text: str) -> None:
    learnt = load(out / "tokenizer")
    assert learnt.decode(encode(learnt, [text])[0].tolist(), skip_special_tokens=False) == text


@given(st.lists(st.sampled_from([*SPECIAL, " ", "a"])))
def test_a_marker_in_a_text_is_text(out: Path, pieces: list[str]) -> None:
    learnt = load(out / "tokenizer")
    ids = encode(learnt, ["".join(pieces)])[0]
    assert not len(ids) or ids.min() >= 6
    assert learnt.decode(ids.tolist(), skip_special_tokens=False) == "".join(pieces)


@pytest.mark.parametrize(("digits", "pieces"), [(1, 6), (3, 2), (6, 1)])
def test_a_token_holds_at_most_the_configured_digits(tmp_path: Path, digits: int, pieces: int) -> None:
    texts = ["123456 " * 400 + prose(seed) for seed in range(4)]
    config = TokenizerConfig(vocab_size=320, digits=digits)
    tokenizer(config, documents=write(tmp_path / "in", texts), out=tmp_path / "out")
    assert len(encode(load(tmp_path / "out" / "tokenizer"), ["123456"])[0]) == pieces


def test_two_trainings_give_the_same_bytes_at_any_number_of_threads(corpus: Path, out: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from pipelines.tokens.tokenizer import *;"
        "tokenizer(TokenizerConfig(vocab_size=400), documents=Path(sys.argv[1]), out=Path(sys.argv[2]))"
    )
    environment = {"PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", script, str(corpus), str(tmp_path)]
    subprocess.run(arguments, check=True, env=environment, cwd=Path(__file__).parents[2])
    assert contents(tmp_path) == contents(out)


def test_the_division_into_parts_makes_no_difference(out: Path, tmp_path: Path) -> None:
    parted = write(tmp_path / "in", [prose(seed) for seed in range(60)], per_part=7)
    tokenizer(CONFIG, documents=parted, out=tmp_path / "out")
    assert contents(tmp_path / "out") == contents(out)


def test_a_corpus_too_small_for_the_vocabulary_names_the_size_that_it_reaches(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.vocab_size: 50,000 is more than this corpus yields") as raised:
        tokenizer(TokenizerConfig(vocab_size=50_000), documents=corpus, out=tmp_path / "out")
    reached = int(str(raised.value).split("at most ")[1].split()[0].replace(",", ""))
    metrics = tokenizer(TokenizerConfig(vocab_size=reached), documents=corpus, out=tmp_path / "again")
    assert metrics["vocab_size"] == reached


def test_the_sample_is_bounded_in_bytes_and_drawn_by_seed(corpus: Path, tmp_path: Path) -> None:
    sampled = [
        tokenizer(
            TokenizerConfig(vocab_size=300, sample_bytes=5_000, seed=seed), documents=corpus, out=tmp_path / str(seed)
        )
        for seed in (1, 2)
    ]
    assert all(5_000 <= metrics["sample.bytes"] < 7_000 for metrics in sampled)
    assert contents(tmp_path / "1") != contents(tmp_path / "2")


def test_quality_is_told_by_language_on_documents_that_were_not_learnt_from(corpus: Path, tmp_path: Path) -> None:
    config = TokenizerConfig(vocab_size=400, quality_fraction=0.3)
    metrics = tokenizer(config, documents=corpus, out=tmp_path)
    quality = json.loads((tmp_path / "quality" / "quality.json").read_text())
    assert set(quality["languages"]) == {"en", "tok"}
    assert quality["total"]["documents"] + metrics["sample.documents"] == metrics["documents"] == 60
    assert sum(share["bytes"] for share in quality["languages"].values()) == quality["total"]["bytes"]
    assert quality["total"]["bytes_per_token"] == metrics["bytes_per_token"] > 2
    assert 0.2 < quality["used_share"] <= 1
    assert quality["round_trip"]["exact"] == quality["round_trip"]["documents"] == quality["total"]["documents"]


def test_markers_in_the_corpus_are_learnt_as_text(tmp_path: Path) -> None:
    texts = [f"<|bos|>{prose(seed)}<|end|>" for seed in range(10)]
    tokenizer(TokenizerConfig(vocab_size=300), documents=write(tmp_path / "in", texts), out=tmp_path / "out")
    learnt = load(tmp_path / "out" / "tokenizer")
    assert [learnt.id_to_token(number) for number in range(6)] == SPECIAL


def test_one_unbroken_run_does_not_hold_the_trainer_up(tmp_path: Path) -> None:
    letters = "".join(random.Random(0).choices("abcdefghij", k=300_000))
    texts = [prose(0), letters, "=" * 300_000, " " * 300_000, "\n" * 300_000]
    metrics = tokenizer(TokenizerConfig(vocab_size=600), documents=write(tmp_path / "in", texts), out=tmp_path / "out")
    assert metrics["vocab_size"] == 600


def test_a_corpus_of_one_document_is_measured_on_it(tmp_path: Path) -> None:
    metrics = tokenizer(
        TokenizerConfig(vocab_size=300), documents=write(tmp_path / "in", [prose(0)]), out=tmp_path / "out"
    )
    assert metrics["sample.documents"] == 1
    assert metrics["bytes_per_token"] > 1


def test_no_documents_are_an_empty_output(tmp_path: Path) -> None:
    with pytest.raises(EmptyOutput, match="tokenizer: no document is left"):
        tokenizer(CONFIG, documents=write(tmp_path / "in", []), out=tmp_path / "out")
