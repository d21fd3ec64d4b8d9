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
    """Return the vocabulary (token to id), the merges in order and the special tokens (token to id)."""
    path = folder / TOKENIZER_FILE
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
        return {
            "vocabulary": loaded["model"]["vocab"],
            "merges": [_pair(merge) for merge in loaded["model"].get("merges", [])],
            "special": {token["content"]: token["id"] for token in loaded["added_tokens"] if token["special"]},
        }
    except FileNotFoundError:
        raise UserError(f"tokenizer: {path} does not exist; name a folder that holds {TOKENIZER_FILE}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"tokenizer: {path} is no tokenizer ({error!r}); build it again") from error


def _pair(merge: str | list[str]) -> list[str]:
    """Return a merge as its two tokens; older files join them by a space."""
    return merge.split(" ") if isinstance(merge, str) else merge


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the files of the tokenizer in `source` as they are."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
