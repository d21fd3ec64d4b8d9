"""The contract of a model: the tokenizer, chat template and length it was made for, checked at every edge."""

import hashlib
import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pipelines.artifacts.errors import UserError
from pipelines.tokens.digest import TOKENIZER_FILE, tokenizer_contract, tokenizer_digest

CONTRACT_FILE = "contract.json"
TEMPLATE_FILE = "chat_template.jinja"
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "tok_embeddings.weight", "shared.weight")
WRITE_NOTHING = ("ForSequenceClassification", "ForMaskedLM")
"""Ends of the names of models that no text can be taken from."""
MAX_HEADER_BYTES = 100 << 20  # the safetensors format's own bound
MARKER = re.compile(r"<\|[a-z_]+\|>")

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Contract:
    """What a model's weights were trained to read: digests of tokenizer and template, and the longest input."""

    tokenizer: str
    template: str | None
    max_length: int

    @property
    def digest(self) -> str:
        """Return the sha256, in hexadecimal, over the three."""
        return hashlib.sha256(json.dumps([self.tokenizer, self.template, self.max_length]).encode()).hexdigest()

    def as_json(self) -> Json:
        """Return what `contract.json` holds."""
        return {
            "tokenizer": self.tokenizer,
            "template": self.template,
            "max_length": self.max_length,
            "digest": self.digest,
        }


def stamp(model: Path) -> Contract:
    """Write `contract.json` beside the model's files and return it; raise UserError where the files disagree."""
    contract = _measure(model)
    text = json.dumps(contract.as_json(), indent=2) + "\n"
    (model / CONTRACT_FILE).write_text(text, encoding="utf-8", newline="\n")
    return contract


def check(model: Path) -> Contract:
    """Return the model's contract; raise UserError naming what differs from the one that was stamped."""
    stamped = _read(model / CONTRACT_FILE)
    found = _measure(model).as_json()
    wrong = [name for name in found if stamped.get(name) != found[name]]
    if wrong:
        name = wrong[0]
        raise UserError(
            f"{model / CONTRACT_FILE}: {name} is {stamped.get(name)!r} and the model's files give {found[name]!r}; "
            "restore the file that was changed or build the model again"
        )
    return Contract(found["tokenizer"], found["template"], found["max_length"])


def _measure(model: Path) -> Contract:
    """Return the contract that the files of `model` make; raise UserError where they break a rule."""
    config = _read(model / "config.json")
    if "auto_map" in config:
        raise UserError(f"{model / 'config.json'}: auto_map asks to run the model's own code; remove it")
    length = config.get("max_position_embeddings", config.get("n_positions"))  # as GPT-2 calls it
    if type(length) is not int or length < 1:
        raise UserError(f"{model / 'config.json'}: max_position_embeddings is {length!r}; give the longest input")
    template = _template(model)
    special: dict[str, int] = tokenizer_contract(model)["special"]
    _check_size(model, config)
    _check_specials(model, config, special)
    for marker in sorted(set(MARKER.findall(template or ""))):
        if marker not in special:
            raise UserError(f"{model / TEMPLATE_FILE}: {marker} is no special token of {TOKENIZER_FILE}; add it there")
    digest = None if template is None else hashlib.sha256(template.encode()).hexdigest()
    return Contract(tokenizer_digest(model), digest, length)


def _template(model: Path) -> str | None:
    path = model / TEMPLATE_FILE
    if not path.is_file():
        return None
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is no UTF-8; write the template again") from None


def _check_size(model: Path, config: Json) -> None:
    """Raise UserError unless every id of the tokenizer has a row of the embedding."""
    vocabulary = tokenizer_contract(model)
    highest = max([*vocabulary["vocabulary"].values(), *vocabulary["special"].values()], default=-1)
    rows = _embedding_rows(model)
    if config.get("vocab_size") != rows:
        raise UserError(
            f"{model / 'config.json'}: vocab_size is {config.get('vocab_size')!r} and the embedding has {rows:,} rows; "
            "use the config and the weights of one model"
        )
    if highest >= rows:
        raise UserError(
            f"{model / TOKENIZER_FILE}: it gives ids up to {highest:,} and the model's embedding has {rows:,} rows; "
            "use the tokenizer that the model was trained with"
        )


def _check_specials(model: Path, config: Json, special: dict[str, int]) -> None:
    """Raise UserError unless config, generation config and tokenizer agree on the special ids and pad ends nothing."""
    tokenizer = _read(model / "tokenizer_config.json")
    generates = not any(name.endswith(WRITE_NOTHING) for name in config.get("architectures") or [])
    for file in ("config.json", *(["generation_config.json"] if generates else [])):
        settings = config if file == "config.json" else _read(model / file)
        for kind in ("bos", "pad", "eos"):
            token, ids = tokenizer.get(f"{kind}_token"), _ids(settings.get(f"{kind}_token_id"))
            token = token.get("content") if isinstance(token, dict) else token
            if token is not None and ids and special.get(token) not in ids:
                raise UserError(
                    f"{model / file}: {kind}_token_id is {ids} and the tokenizer's {kind} token {token} has id "
                    f"{special.get(token)}; use the files of one model"
                )
        both = set(_ids(settings.get("pad_token_id"))) & set(_ids(settings.get("eos_token_id")))
        if both:
            raise UserError(
                f"{model / file}: pad id {both.pop()} is in eos_token_id, so the model would never learn to stop; "
                "take it out of eos_token_id"
            )


def _ids(value: Any) -> list[int]:
    """Return the ids of a setting that holds none, one or several."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _embedding_rows(model: Path) -> int:
    """Return how many ids the input embedding has rows for, read from the weights' headers."""
    for path in sorted(model.glob("*.safetensors")):
        for name, tensor in _header(path).items():
            if name.endswith(EMBEDDINGS):
                return int(tensor["shape"][0])
    raise UserError(f"{model}: no input embedding in *.safetensors; name a folder that holds a model")


def _header(path: Path) -> Json:
    """Return the table of tensors at the start of a safetensors file."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > MAX_HEADER_BYTES:
                raise ValueError(f"header of {length:,} bytes")
            table = json.loads(file.read(length))
        if not isinstance(table, dict):
            raise ValueError("header is no table")
    except (OSError, ValueError, struct.error) as error:
        raise UserError(f"{path}: these are no safetensors ({error}); build the model again") from None
    return table


def _read(path: Path) -> Json:
    """Return a JSON object; raise UserError where there is none."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; name a folder that holds a finished model") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); build the model again") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path} holds no object; build the model again")
    return loaded
