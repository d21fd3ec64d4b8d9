"""The files of a checkpoint: safetensors and JSON with their digests, in one part or in one a process.

The tensor files are laid out as torch's distributed checkpoints in safetensors are (`DCP_SHARDING_INFO` in the header
says where a part begins), so its HuggingFaceStorageReader reads them; nothing is a pickle.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipelines.artifacts.curve import Row, as_lines
from pipelines.artifacts.pins import file_digest
from pipelines.artifacts.work import fsync_dir
from pipelines.pretraining.state_facts import FACTS

CURVE = "curve.jsonl"
OFFSETS = "DCP_SHARDING_INFO"

Tensors = Mapping[str, Tensor]
Offset = tuple[int, ...]


@dataclass(frozen=True)
class Snapshot:
    """The whole state of a run between two steps."""

    tensors: Mapping[str, Tensors]
    """Groups by name, each with its tensors by name: the model, the optimizer, the generators."""
    facts: dict[str, Any]
    """Counters and what the run is, as JSON values."""
    curve: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """Which part of a checkpoint a process writes, of how many; the first part has facts and curve as well."""

    number: int = 0
    of: int = 1

    def name(self, stem: str, ending: str) -> str:
        """Return the name of a file of this part."""
        return f"{stem}{ending}" if self.of == 1 else f"{stem}-{self.number + 1:05d}-of-{self.of:05d}{ending}"


WHOLE = Part()


class DamagedCheckpoint(Exception):
    """A checkpoint's files are not those that were written."""


def write_files(
    folder: Path, snapshot: Snapshot, part: Part = WHOLE, offsets: Mapping[str, Mapping[str, Offset]] | None = None
) -> None:
    """Write a part's files, each flushed to the disk, and last their digests.

    `offsets` says of each group's tensors where in the whole they begin; those not named begin at its beginning.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for group, tensors in snapshot.tensors.items():
        metadata = {"format": "pt"}
        if part.of > 1:
            known = (offsets or {}).get(group, {})
            starts = {name: {"saved_offsets": known.get(name, (0,) * tensor.ndim)} for name, tensor in tensors.items()}
            metadata[OFFSETS] = json.dumps(starts, sort_keys=True)
        names.append(part.name(group, ".safetensors"))
        ordered = {name: tensors[name].detach().contiguous() for name in sorted(tensors)}
        save_file(ordered, folder / names[-1], metadata=metadata)
    if part.number == 0:
        (folder / FACTS).write_text(json.dumps(snapshot.facts, indent=1, sort_keys=True) + "\n")
        (folder / CURVE).write_text(as_lines(snapshot.curve))
        names += [FACTS, CURVE]
    digests = {name: file_digest(folder / name) for name in sorted(names)}
    names.append(part.name("digests", ".json"))
    (folder / names[-1]).write_text(json.dumps(digests, indent=1) + "\n")
    for name in names:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    fsync_dir(folder)


def check_files(folder: Path) -> None:
    """Raise DamagedCheckpoint unless all parts are there and every file is as it was written."""
    try:
        found = sorted(folder.glob("digests*.json"))
        of = int(found[0].stem.rpartition("-")[2]) if found and found[0].stem != "digests" else 1
        for number in range(of):
            digests: Mapping[str, str] = json.loads((folder / Part(number, of).name("digests", ".json")).read_text())
            for name, digest in digests.items():
                if file_digest(folder / name) != digest:
                    raise DamagedCheckpoint(f"{folder / name} is not as it was written")
    except (OSError, ValueError, AttributeError) as error:
        raise DamagedCheckpoint(f"{folder}: {error}") from error


def read_files(folder: Path) -> Snapshot:
    """Return the snapshot that `write_files` wrote, its tensors read from the files one by one as they are asked for.

    Raises DamagedCheckpoint where it cannot be read; `check_files` finds the rest of what may be wrong.
    """
    groups: dict[str, dict[str, dict[Offset, Path]]] = {}
    try:
        for path in sorted(folder.glob("*.safetensors")):
            group = groups.setdefault(path.stem.partition("-")[0], {})
            with safe_open(path, framework="pt") as file:
                offsets = json.loads((file.metadata() or {}).get(OFFSETS, "{}"))
                for name in file.keys():  # noqa: SIM118 - a file of tensors is no mapping
                    start = tuple(offsets.get(name, {}).get("saved_offsets", ()))
                    group.setdefault(name, {}).setdefault(start, path)
        facts = json.loads((folder / FACTS).read_text())
        curve = [json.loads(line) for line in (folder / CURVE).read_text().splitlines()]
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        raise DamagedCheckpoint(f"{folder}: {error}") from error
    return Snapshot({group: _Stored(parts) for group, parts in groups.items()}, facts, curve)


class _Stored(Mapping[str, Tensor]):
    """The tensors of a group, each put together from its pieces in the parts when it is asked for."""

    def __init__(self, parts: dict[str, dict[Offset, Path]]) -> None:
        self.parts = parts

    def __getitem__(self, name: str) -> Tensor:
        pieces = {}
        for start, path in self.parts[name].items():
            with safe_open(path, framework="pt") as file:
                pieces[start] = file.get_tensor(name)
        return next(iter(pieces.values())) if len(pieces) == 1 else _put_together(pieces)

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


def _put_together(pieces: Mapping[Offset, Tensor]) -> Tensor:
    """Return the tensor whose pieces begin at these places."""
    ends = [[at + size for at, size in zip(start, piece.shape, strict=True)] for start, piece in pieces.items()]
    found = next(iter(pieces.values())).new_empty([max(sizes) for sizes in zip(*ends, strict=True)])
    for start, piece in pieces.items():
        found[tuple(slice(at, at + size) for at, size in zip(start, piece.shape, strict=True))] = piece
    return found
