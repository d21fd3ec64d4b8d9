"""The digest that says which tokenizer made some ids: over its vocabulary, merges and special ids, and nothing else."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from pipelines.artifacts.errors import UserError

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_FILES = (TOKENIZER_FILE, "tokenizer_config.json", "special_tokens_map.json")


def tokenizer_digest(folder: Path) -> str:
    """Return the sha256, in hexadecimal, over what decides the ids of the tokenizer in `folder`.

    The order of the vocabulary in the file and the two ways to write a merge make no difference, so that a tokenizer
    saved again by another library keeps its digest. Raises UserError when the file is absent or no tokenizer.
    """
    contract = tokenizer_contract(folder)
    canonical = json.dumps(contract, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def tokenizer_contract(folder: Path) -> dict[str, Any]:
    """Return the vocabulary (token to id), the merges in order and the special tokens (token to id).

    A WordPiece or Unigram tokenizer has its type beside them, a Unigram one its scores in the order of the ids.
    Raises UserError where two tokens share an id or a special token has another id in the vocabulary.
    """
    path = folder / TOKENIZER_FILE
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
        model, kind = loaded["model"], loaded["model"].get("type", "BPE")
        rows = model["vocab"]
        contract: dict[str, Any] = {
            "vocabulary": {str(token): place for place, (token, _) in enumerate(rows)} if kind == "Unigram" else rows,
            "merges": [_pair(merge) for merge in model.get("merges", [])],
            "special": {token["content"]: token["id"] for token in loaded["added_tokens"] if token["special"]},
        }
        ids = [*contract["vocabulary"].values(), *contract["special"].values()]
        if not all(type(number) is int and number >= 0 for number in ids):
            raise ValueError("an id is no whole number")
        _check_apart(path, contract, sum(bool(token["special"]) for token in loaded["added_tokens"]), len(rows))
        if kind != "BPE":
            contract["type"] = kind
        if kind == "Unigram":
            contract["scores"] = [round(float(score), 6) for _, score in rows]  # writing again moves the last bits
    except FileNotFoundError:
        raise UserError(f"tokenizer: {path} does not exist; name a folder that holds {TOKENIZER_FILE}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"tokenizer: {path} is no tokenizer ({error!r}); build it again") from error
    return contract


def _check_apart(path: Path, contract: dict[str, Any], specials: int, tokens: int) -> None:
    """Raise UserError unless every token has an id of its own, the special ones that of the vocabulary."""
    vocabulary, special = contract["vocabulary"], contract["special"]
    owner: dict[int, str] = {}
    for token, number in [*vocabulary.items(), *special.items()]:
        other = owner.setdefault(number, token)
        if other != token or vocabulary.get(token, number) != number:
            shown = f"{token!r} and {other!r} share" if other != token else f"{token!r} has two ids, one of them"
            raise UserError(f"tokenizer: {path}: {shown} id {number}; build it again")
    if len(special) < specials or len(vocabulary) < tokens:
        raise UserError(f"tokenizer: {path}: a token is listed twice; build it again")


def _pair(merge: str | list[str]) -> list[str]:
    """Return a merge as its two tokens; older files join them by a space."""
    return merge.split(" ") if isinstance(merge, str) else merge


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the files of the tokenizer in `source` as they are."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
