import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.artifacts.errors import UserError
from pipelines.tokens.digest import tokenizer_contract, tokenizer_digest

TOKENIZER: dict[str, Any] = {
    "added_tokens": [
        {"id": 0, "content": "<|bos|>", "special": True},
        {"id": 5, "content": "ab", "special": False},
    ],
    "model": {"type": "BPE", "vocab": {"<|bos|>": 0, "a": 1, "b": 2, "ab": 3}, "merges": [["a", "b"]]},
}


def written(folder: Path, **model: Any) -> Path:
    folder.mkdir()
    content = {**TOKENIZER, "model": {**TOKENIZER["model"], **model}}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def test_the_digest_does_not_depend_on_how_the_file_is_written(tmp_path: Path) -> None:
    plain = written(tmp_path / "plain")
    reordered = written(tmp_path / "reordered", vocab=dict(reversed(TOKENIZER["model"]["vocab"].items())))
    joined = written(tmp_path / "joined", merges=["a b"])
    assert tokenizer_digest(plain) == tokenizer_digest(reordered) == tokenizer_digest(joined)


@pytest.mark.parametrize("change", [{"vocab": {"<|bos|>": 0, "a": 2, "b": 1, "ab": 3}}, {"merges": [["b", "a"]]}])
def test_another_vocabulary_or_merge_is_another_digest(tmp_path: Path, change: dict[str, Any]) -> None:
    assert tokenizer_digest(written(tmp_path / "one")) != tokenizer_digest(written(tmp_path / "two", **change))


def test_another_special_id_is_another_digest(tmp_path: Path) -> None:
    one, two = written(tmp_path / "one"), written(tmp_path / "two")
    for folder, place in ((one, 8), (two, 9)):
        content = json.loads((folder / "tokenizer.json").read_text())
        content["added_tokens"].append({"id": place, "content": "<|user|>", "special": True})
        (folder / "tokenizer.json").write_text(json.dumps(content))
    assert tokenizer_digest(one) != tokenizer_digest(two)


def test_the_order_of_merges_counts(tmp_path: Path) -> None:
    one = written(tmp_path / "one", merges=[["a", "b"], ["b", "a"]])
    two = written(tmp_path / "two", merges=[["b", "a"], ["a", "b"]])
    assert tokenizer_digest(one) != tokenizer_digest(two)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model": {"vocab": {}}, "added_tokens": [3]}'])
def test_a_damaged_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=r"tokenizer\.json is no tokenizer"):
        tokenizer_digest(tmp_path)


def test_an_absent_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        tokenizer_digest(tmp_path)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ({"id": 3, "content": "<|bos|>", "special": True}, "share id 3"),
        ({"id": 3, "content": "<|user|>", "special": True}, "share id 3"),
        ({"id": 9, "content": "<|bos|>", "special": True}, "has two ids"),
        ({"id": 0, "content": "<|bos|>", "special": True}, "listed twice"),
    ],
)
def test_a_collision_of_special_tokens_is_named(tmp_path: Path, token: dict[str, Any], message: str) -> None:
    folder = written(tmp_path / "one")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"].append(token)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        tokenizer_digest(folder)


def test_a_unigram_vocabulary_is_a_list_whose_scores_count(tmp_path: Path) -> None:
    rows = [["<|bos|>", 0.0], ["a", -1.5], ["b", -2.5]]
    one = written(tmp_path / "one", type="Unigram", vocab=rows)
    two = written(tmp_path / "two", type="Unigram", vocab=[*rows[:2], ["b", -2.25]])
    assert tokenizer_contract(one)["vocabulary"] == {"<|bos|>": 0, "a": 1, "b": 2}
    assert tokenizer_digest(one) != tokenizer_digest(two)
