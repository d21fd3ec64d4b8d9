"""From documents to shards in two passes: ids go to a spill file as they are read, then to the shards in their order.

In memory are a batch of 4 MiB of text or ids and, for each document, its id and six numbers: about 250 bytes. The spill
file takes two or four bytes a token of disk until the stage ends.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.artifacts.progress import meter
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import progress_dir
from pipelines.corpus.documents import count_documents, read_documents
from pipelines.tokens.digest import tokenizer_digest
from pipelines.tokens.encoding import batches, encode, load
from pipelines.tokens.ranks import lowest, rank
from pipelines.tokens.shard import ShardConfig
from pipelines.tokens.special import BOS
from pipelines.tokens.split import SplitWriter

UINT16_IDS = 1 << 16
"""A vocabulary beyond this is written in 32 bits."""

BLOCK_IDS = 1 << 20
"""Ids gathered before they are written: 4 MiB at most, or a single longer document."""


@dataclass(frozen=True)
class Encoded:
    """Every document's ids in one spill file, in the order that the documents were read."""

    spill: Path
    dtype: str
    ids: list[str]
    ranks: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    """Bytes of text."""
    ends: NDArray[np.int64]
    """Where each document's ids end in the spill file."""


def build(config: ShardConfig, documents: Path, tokenizer: Path, out: Path) -> Metrics:
    """Write the shards of both splits and the tokenizer below `out` and return their figures."""
    encoder = load(tokenizer)
    bos = encoder.token_to_id(BOS)
    if bos is None:
        raise UserError(f"tokenizer: {tokenizer} has no {BOS}; build it with the tokenizer stage")
    encoded = _encode_all(config, documents, encoder, out)
    heldout = lowest(encoded.ranks, config.heldout_fraction)
    described = {
        "vocab_size": encoder.get_vocab_size(),
        "tokenizer_digest": tokenizer_digest(tokenizer),
        "seed": config.seed,
    }
    metrics = {"in": float(len(encoded.ids)), "kept": float(len(encoded.ids))}
    for name, members in (("train", ~heldout), ("heldout", heldout)):
        with SplitWriter(out / name, out, encoded.dtype, config.shard_bytes, described) as writer:
            _write(writer, encoded, members, bos)
        metrics |= {
            f"documents.{name}": float(writer.documents),
            f"tokens.{name}": float(writer.tokens),
            f"bytes.{name}": float(writer.bytes),
        }
    shutil.copytree(tokenizer, out / "tokenizer", copy_function=shutil.copyfile)
    return metrics


def _encode_all(config: ShardConfig, documents: Path, encoder: Tokenizer, out: Path) -> Encoded:
    count = count_documents(documents)
    if not count:
        raise EmptyOutput("shard", {"in": 0})
    if count < 2:
        raise UserError("shard: 1 document cannot be split into train and heldout; give more documents")
    dtype = "<u4" if encoder.get_vocab_size() > UINT16_IDS else "<u2"
    ids: list[str] = []
    ranks = np.empty(count, np.uint64)
    sizes, lengths = np.empty(count, np.int64), np.empty(count, np.int64)
    spill = progress_dir(out) / "ids.bin"
    with spill.open("wb") as file, meter("encoding", total=count, unit="documents") as counter:
        for batch in batches(read_documents(documents, columns=["id", "text"])):
            for document, found in zip(batch, encode(encoder, [document.text for document in batch]), strict=True):
                place = len(ids)
                ids.append(document.id)
                ranks[place] = rank(config.seed, document.id)
                sizes[place], lengths[place] = len(document.text.encode()), len(found)
                file.write(found.astype(dtype).tobytes())
            counter.advance(len(batch))
    return Encoded(spill, dtype, ids, ranks, sizes, np.cumsum(lengths))


def _write(writer: SplitWriter, encoded: Encoded, members: NDArray[np.bool_], bos: int) -> None:
    # A file of no bytes cannot be mapped: every document may be empty.
    spilt = np.memmap(encoded.spill, encoded.dtype, "r") if encoded.ends[-1] else np.empty(0, encoded.dtype)
    stream = spilt.view(np.ndarray)  # slices of a plain array are cheaper
    first = np.array([bos], encoded.dtype)
    starts = np.concatenate([[0], encoded.ends[:-1]])
    order = np.argsort(encoded.ranks, kind="stable")
    order = order[members[order]]
    lengths = (encoded.ends - starts)[order] + 1
    with meter(f"writing {writer.folder.name}", total=len(order), unit="documents") as counter:
        for block in _blocks(lengths):
            places = order[block]
            bounds = zip(starts[places].tolist(), encoded.ends[places].tolist(), strict=True)
            pieces = [piece for start, end in bounds for piece in (first, stream[start:end])]
            names = [encoded.ids[place] for place in places.tolist()]
            writer.write(names, np.concatenate(pieces), lengths[block], int(encoded.sizes[places].sum()))
            counter.advance(len(places))


def _blocks(lengths: NDArray[np.int64]) -> Iterator[slice]:
    """Yield which documents are written at once: as many as fit into a block, and one at least."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        before = ends[start] - lengths[start]
        stop = max(int(np.searchsorted(ends, before + BLOCK_IDS, side="right")), start + 1)
        yield slice(start, stop)
        start = stop
