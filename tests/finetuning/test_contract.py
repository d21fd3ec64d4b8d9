"""The contract holds tokenizer, template and length together."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from pipelines.artifacts.errors import UserError
from pipelines.finetuning.contract import check, stamp
from tests.finetuning.tiny import build_model


@pytest.fixture(scope="module")
def stamped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("contract") / "model", template="<|user|>{{ messages[0]['content'] }}")


@pytest.fixture
def model(stamped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stamped, tmp_path / "model"))


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_stamped_model_passes_its_check_and_the_digest_is_over_the_three(model: Path) -> None:
    contract = check(model)
    assert contract == stamp(model)
    written = json.loads((model / "contract.json").read_text())
    assert written == {
        "tokenizer": contract.tokenizer,
        "template": contract.template,
        "max_length": 64,
        "digest": contract.digest,
    }


def test_a_tokenizer_that_was_saved_again_is_the_same_one(model: Path) -> None:
    AutoTokenizer.from_pretrained(str(model)).save_pretrained(model)
    check(model)


def swap_two_words(model: Path) -> None:
    loaded = json.loads((model / "tokenizer.json").read_text())
    vocabulary = loaded["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (model / "tokenizer.json").write_text(json.dumps(loaded))


MUTATIONS = {
    "tokenizer": swap_two_words,
    "template": lambda model: (model / "chat_template.jinja").write_text("<|user|> {{ messages[0]['content'] }}"),
    "template is": lambda model: (model / "chat_template.jinja").unlink(),
    "max_length": lambda model: edit(model / "config.json", max_position_embeddings=32),
    "digest": lambda model: edit(model / "contract.json", digest="0" * 64),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_change_of_any_of_the_three_fails_the_check_and_is_named(model: Path, name: str) -> None:
    MUTATIONS[name](model)
    with pytest.raises(UserError, match=name):
        check(model)


REFUSED = {
    "pad id 1 is in eos": lambda model: edit(model / "generation_config.json", eos_token_id=[5, 1]),
    "config.json: pad id 5": lambda model: (
        edit(model / "config.json", pad_token_id=5),
        edit(model / "tokenizer_config.json", pad_token=None),
    ),
    "eos_token_id is .9.": lambda model: edit(model / "generation_config.json", eos_token_id=9),
    "bos_token_id": lambda model: edit(model / "config.json", bos_token_id=3),
    "vocab_size": lambda model: edit(model / "config.json", vocab_size=9_999),
    "auto_map": lambda model: edit(model / "config.json", auto_map={"AutoModel": "code.Model"}),
    "max_position_embeddings": lambda model: edit(model / "config.json", max_position_embeddings="64"),
    "no special token": lambda model: (model / "chat_template.jinja").write_text("<|tool|>"),
    "no UTF-8": lambda model: (model / "chat_template.jinja").write_bytes(b"\xff"),
    "no safetensors": lambda model: (model / "model.safetensors").write_bytes(b"\xff" * 7 + b"\x7f" + b"{}"),
    "no input embedding": lambda model: (model / "model.safetensors").unlink(),
    "config.json does not exist": lambda model: (model / "config.json").unlink(),
    "config.json cannot be read": lambda model: (model / "config.json").write_text("{"),
    "holds no object": lambda model: (model / "config.json").write_text("[]"),
}


@pytest.mark.parametrize("words", REFUSED)
def test_files_that_disagree_are_refused_in_one_line(model: Path, words: str) -> None:
    REFUSED[words](model)
    with pytest.raises(UserError, match=words) as refused:
        stamp(model)
    assert "\n" not in str(refused.value)


def test_a_tokenizer_with_more_ids_than_the_embedding_has_rows_is_refused(model: Path) -> None:
    loaded = json.loads((model / "tokenizer.json").read_text())
    loaded["model"]["vocab"]["zzz"] = 9_999
    (model / "tokenizer.json").write_text(json.dumps(loaded))
    with pytest.raises(UserError, match=r"ids up to 9,999 and the model's embedding has"):
        stamp(model)
