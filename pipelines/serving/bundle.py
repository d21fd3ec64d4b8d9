"""A bundle on disk: its index, and the checks it must pass before anything in it is loaded."""

import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.manifest import FileEntry
from pipelines.artifacts.pins import file_digest
from pipelines.artifacts.store import output_digests, read_manifest
from pipelines.finetuning.contract import check
from pipelines.tokens.digest import tokenizer_contract

INDEX = "bundle.json"
FORMAT = 1
SUFFIXES = (".json", ".jinja", ".md", ".safetensors")
NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
PADDING = 128
"""An embedding's rows may be padded to a multiple of this; a greater difference means another tokenizer."""


class Precision(BaseModel):
    """One form of the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    folder: str = Field(pattern=NAME)
    bytes: int = Field(ge=0)


class BundleIndex(BaseModel):
    """What `bundle.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int
    name: str = Field(pattern=NAME)
    contract: str
    default_precision: str
    precisions: dict[str, Precision]
    files: dict[str, FileEntry]


@dataclass(frozen=True)
class Bundle:
    """A bundle that holds together."""

    path: Path
    index: BundleIndex

    @property
    def name(self) -> str:
        """The name that clients ask for."""
        return self.index.name

    @property
    def digest(self) -> str:
        """The content digest of all its files, as the store has it for the output `bundle` of `package`."""
        own = FileEntry(sha256=file_digest(self.path / INDEX), bytes=0)
        return output_digests({f"bundle/{name}": entry for name, entry in {**self.index.files, INDEX: own}.items()})[
            "bundle"
        ]

    def model(self, precision: str | None = None) -> Path:
        """Return the folder of the model in this precision, the bundle's default where none is named."""
        found = self.index.precisions.get(precision or self.index.default_precision)
        if found is None:
            raise UserError(f"precision: the bundle has no {precision!r}; it has {', '.join(self.index.precisions)}")
        return self.path / found.folder


def key_of(bundle: Path) -> str | None:
    """Return the key of the artifact that a bundle's folder is an output of, None outside a store."""
    manifest = read_manifest(bundle.resolve().parent)
    return manifest.key if manifest and manifest.stage == "package" else None


def open_bundle(path: Path) -> Bundle:
    """Return the bundle at `path`; raise UserError naming the first thing that is wrong with it.

    Every file must be listed with its digest and be of a kind that cannot run code; every model must keep its
    contract, and its tokenizer must match its embedding.
    """
    index = _read_index(path)
    _check_files(path, index)
    if index.default_precision not in index.precisions:
        raise UserError(
            f"{path / INDEX}: its default {index.default_precision!r} is none of its precisions; package it again"
        )
    for precision in index.precisions.values():
        _check_model(path / precision.folder, index)
    return Bundle(path, index)


def _read_index(path: Path) -> BundleIndex:
    file = path / INDEX
    try:
        found = json.loads(file.read_bytes())
        if isinstance(found, dict) and found.get("format", FORMAT) != FORMAT:
            raise UserError(f"{file}: format {found['format']!r} is not {FORMAT}; use the version that packaged it")
        return BundleIndex.model_validate(found)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"bundle: {file} does not exist; name the folder that `package` wrote") from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise UserError(f"{file}: {place}: {fault['msg']}; package it again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read ({error}); package it again") from None


def _check_files(path: Path, index: BundleIndex) -> None:
    """Raise UserError unless the folder holds the listed files and no others, each as it was written."""
    held = {str(item.relative_to(path).as_posix()): item for item in sorted(path.rglob("*")) if not _is_folder(item)}
    held.pop(INDEX, None)
    for name in [*held, *index.files]:
        place = f"{path / name}"
        if not name.endswith(SUFFIXES):
            raise UserError(f"{place}: a bundle holds {', '.join(SUFFIXES)} and nothing else; remove it")
        if name not in index.files:
            raise UserError(f"{place} is not listed in {INDEX}; remove it")
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or name not in held:
            raise UserError(f"{place} is listed in {INDEX} and absent; copy the bundle again")
        file, entry = held[name], index.files[name]
        if file.is_symlink() or not file.is_file():
            raise UserError(f"{place} is no regular file; copy the bundle again without links")
        if file.stat().st_size != entry.bytes or file_digest(file) != entry.sha256:
            raise UserError(f"{place} is not the file that was packaged; copy the bundle again")


def _is_folder(item: Path) -> bool:
    return item.is_dir() and not item.is_symlink()


def _check_model(folder: Path, index: BundleIndex) -> None:
    contract = check(folder)
    if contract.digest != index.contract:
        raise UserError(f"{folder}: its contract is {contract.digest}, the bundle's {index.contract}; package it again")
    for name in ("tokenizer_config.json", "generation_config.json"):
        text = (folder / name).read_text(encoding="utf-8") if (folder / name).is_file() else ""
        if re.search(r'"auto_map"', text):
            raise UserError(f"{folder / name}: auto_map asks to run the model's own code; remove it")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = tokenizer_contract(folder)
    ids = [*tokenizer["vocabulary"].values(), *tokenizer["special"].values()]
    rows, size = config["vocab_size"], max(ids) + 1
    if rows - size >= PADDING:
        raise UserError(
            f"{folder / 'tokenizer.json'}: it has {size:,} ids and the model's embedding {rows:,} rows; "
            "use the tokenizer that the model was trained with"
        )
