"""From documents to shards in two passes: ids go to a spill file as they are read, then to the shards in their order.

In memory are `workers` + 2 batches of 4 MiB of text with their ids, a MiB of text that both engines encode and, for
each document, its id and six numbers: about 250 bytes. The spill file takes two or four bytes a token of disk until the
stage ends.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.artifacts.progress import meter, say
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import progress_dir
from pipelines.corpus.documents import count_documents, read_documents
from pipelines.tokens.control import Control
from pipelines.tokens.digest import tokenizer_digest
from pipelines.tokens.encoding import Encoder, id_count, load, utf8_size
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
    engines: dict[str, int]
    """How many documents each engine encoded, and how many both did, with the bytes of their text."""


def build(config: ShardConfig, documents: Path, tokenizer: Path, out: Path) -> Metrics:
    """Write the shards of both splits and the tokenizer below `out` and return their figures."""
    encoder = load(tokenizer)
    bos = encoder.token_to_id(BOS)
    if bos is None:
        raise UserError(f"tokenizer: {tokenizer} has no {BOS}; build it with the tokenizer stage")
    encoded = _encode_all(config, documents, encoder, out)
    heldout = lowest(encoded.ranks, config.heldout_fraction)
    described = {
        "vocab_size": id_count(encoder),
        "tokenizer_digest": tokenizer_digest(tokenizer),
        "seed": config.seed,
        "encoding": encoded.engines,
    }
    metrics = {"in": float(len(encoded.ids)), "kept": float(len(encoded.ids))}
    metrics |= {f"encoding.{name}": float(value) for name, value in encoded.engines.items()}
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


def _encode_all(config: ShardConfig, documents: Path, tokenizer: Tokenizer, out: Path) -> Encoded:
    """Encode every document into the spill file; by `tokenizers` alone where the control finds a difference."""
    count = count_documents(documents)
    if not count:
        raise EmptyOutput("shard", {"in": 0})
    if count < 2:
        raise UserError("shard: 1 document cannot be split into train and heldout; give more documents")
    encoder = Encoder.of(tokenizer)
    encoded, control = _spilled(config, documents, encoder, count, out)
    if next(control.differing(tokenizer), None) is None:
        return encoded
    say("shard: tiktoken gives other ids than tokenizers on this corpus; all is encoded again by tokenizers")
    return _spilled(config, documents, Encoder(tokenizer, None), count, out)[0]


def _spilled(config: ShardConfig, documents: Path, encoder: Encoder, count: int, out: Path) -> tuple[Encoded, Control]:
    dtype = "<u4" if id_count(encoder.tokenizer) > UINT16_IDS else "<u2"
    ids: list[str] = []
    ranks = np.empty(count, np.uint64)
    sizes, lengths = np.empty(count, np.int64), np.empty(count, np.int64)
    spill = progress_dir(out) / "ids.bin"
    control, fast = Control(), 0
    with spill.open("wb") as file, meter("encoding", total=count, unit="documents") as counter:
        for batch in encoder.encode_all(read_documents(documents, columns=["id", "text"]), config.workers):
            for document, found in zip(batch.documents, batch.ids, strict=True):
                place = len(ids)
                ids.append(document.id)
                ranks[place] = drawn = rank(config.seed, document.id)
                sizes[place], lengths[place] = utf8_size(document.text), len(found)
                file.write(found.astype(dtype).tobytes())
                if encoder.twin:
                    control.offer(drawn, document.text, found)
            fast += batch.by_tiktoken
            counter.advance(len(batch.documents))
    engines = {"tiktoken": fast, "tokenizers": count - fast, "compared": len(control), "compared_bytes": control.bytes}
    return Encoded(spill, dtype, ids, ranks, sizes, np.cumsum(lengths), engines), control


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
