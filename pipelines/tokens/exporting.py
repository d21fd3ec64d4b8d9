"""Token shards as the files of Megatron and of datatrove, copied and counted in pieces of bounded size."""

import json
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import humanize
import numpy as np
from numpy.typing import NDArray

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.progress import meter
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import atomic_file
from pipelines.tokens.export_shards import ExportShardsConfig
from pipelines.tokens.loader import TokenShards
from pipelines.tokens.spans import Spans

MEGATRON_MAGIC = b"MMIDIDX\x00\x00"
MEGATRON_VERSION = 1
MEGATRON_DTYPES = {"uint16": 8, "uint32": 4}
"""Codes of Megatron's DType: uint16, and int32, since it has no uint32; ids are far below 2**31, so bytes are equal."""
COPY_BYTES = 1 << 24


def export(config: ExportShardsConfig, splits: Mapping[str, Path], out: Path) -> Metrics:
    """Write every split in every format that is asked for, and a summary; return each split's tokens and documents."""
    if not config.formats:
        raise UserError("export_shards.formats: () names no format; give megatron, datatrove or both")
    writers = {"megatron": write_megatron, "datatrove": write_datatrove}
    metrics: Metrics = {}
    summary: dict[str, dict[str, Any]] = {}
    for split, folder in splits.items():
        shards, spans = TokenShards(folder), Spans(folder)
        _check_spans(shards, spans)
        for name in sorted(set(config.formats)):
            writers[name](shards, spans, out / name, split, out)
        metrics |= {f"tokens.{split}": float(shards.tokens), f"documents.{split}": float(shards.documents)}
        summary[split] = {
            "documents": shards.documents,
            "dtype": shards.dtype.name,
            "formats": sorted(set(config.formats)),
            "tokenizer_digest": shards.tokenizer_digest,
            "tokens": shards.tokens,
        }
    with atomic_file(out / "summary" / "summary.json", out) as fresh:
        fresh.write_text(json.dumps(summary, indent=2, sort_keys=True) + "\n")
    return metrics


def write_megatron(shards: TokenShards, spans: Spans, folder: Path, split: str, out: Path) -> None:
    """Write `SPLIT.bin` and `SPLIT.idx` as Megatron-LM's `IndexedDataset` maps them, a sequence a document.

    The index, little-endian: magic, version (u64), type code (u8), sequences (u64), documents + 1 (u64), then for each
    sequence its length in ids (i32), for each its first byte (i64), and the sequence at which each document starts,
    with one more at the end (i64).
    """
    _copy_ids(shards, folder / f"{split}.bin", out)
    count, width = shards.documents, shards.dtype.itemsize
    with atomic_file(folder / f"{split}.idx", out) as fresh, fresh.open("wb") as file:
        file.write(MEGATRON_MAGIC)
        file.write(struct.pack("<QBQQ", MEGATRON_VERSION, MEGATRON_DTYPES[shards.dtype.name], count, count + 1))
        for lengths in spans.lengths():
            file.write(lengths.astype("<i4").tobytes())
        for ends, lengths in _ends(spans):
            file.write(((ends - lengths) * width).astype("<i8").tobytes())
        for start in range(0, count + 1, COPY_BYTES):
            file.write(np.arange(start, min(start + COPY_BYTES, count + 1), dtype="<i8").tobytes())


def write_datatrove(shards: TokenShards, spans: Spans, folder: Path, split: str, out: Path) -> None:
    """Write `SPLIT/00000_tokenized.ds` as datatrove's DocumentTokenizer does, one file a split.

    Beside it the end of each document in ids (u64, `.index`), and the tokenizer, the bytes of an id and the tokens in
    words (`.metadata`). The tokenizer is named by its digest.
    """
    path = folder / split / "00000_tokenized.ds"
    _copy_ids(shards, path, out)
    with atomic_file(path.with_name(f"{path.name}.index"), out) as fresh, fresh.open("wb") as file:
        for ends, _ in _ends(spans):
            file.write(ends.astype("<u8").tobytes())
    described = (
        f"gristmill-{shards.tokenizer_digest[:16]}|{shards.dtype.itemsize}",
        str(shards.tokens),
        humanize.metric(shards.tokens, unit="T"),
    )
    with atomic_file(path.with_name(f"{path.name}.metadata"), out) as fresh:
        fresh.write_text("\n".join(described))


def _check_spans(shards: TokenShards, spans: Spans) -> None:
    """Raise UserError unless the documents are all the tokens of the shards, each of a length that Megatron holds."""
    documents = tokens = 0
    for lengths in spans.lengths():
        documents, tokens = documents + len(lengths), tokens + int(lengths.sum())
        if lengths.max(initial=0) > np.iinfo(np.int32).max:
            raise UserError(f"export_shards: {spans.path} has a document of over 2**31 tokens; split it before")
    if (documents, tokens) != (shards.documents, shards.tokens):
        found = f"names {documents:,} documents of {tokens:,} tokens"
        raise UserError(
            f"shards: {spans.path} {found} and the index promises {shards.documents:,} of {shards.tokens:,}; "
            "run `gristmill artifacts verify` and build it again"
        )


def _ends(spans: Spans) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield where documents end in the stream, and their lengths."""
    end = 0
    for lengths in spans.lengths():
        ends = end + np.cumsum(lengths)
        end = int(ends[-1])
        yield ends, lengths


def _copy_ids(shards: TokenShards, path: Path, out: Path) -> None:
    with (
        atomic_file(path, out) as fresh,
        fresh.open("wb") as target,
        meter(f"writing {path.name}", total=len(shards.files), unit="files") as counter,
    ):
        for source in shards.files:
            with source.open("rb") as file:
                shutil.copyfileobj(file, target, COPY_BYTES)
            counter.advance()
