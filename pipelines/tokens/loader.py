"""Token shards read through memory maps, and the training samples that a seed draws from them.

The order of samples belongs to the data and the seed alone: sample `i` is the same at any batch size and any number
of workers, so the whole state of a loader is the index of its next sample.
"""

import json
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.artifacts.errors import UserError
from pipelines.tokens.permutation import permute

Tokens: TypeAlias = NDArray[np.unsignedinteger[Any]]
"""Ids of 16 or 32 bits, as the index says."""

INDEX_FILE = "index.json"
DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
REMEDY = "run `gristmill artifacts verify` and build it again"


class TokenShards:
    """One split of a shard artifact as a single stream of tokens.

    Raises UserError when a file is absent or does not hold the tokens that the index promises.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            index = json.loads((folder / INDEX_FILE).read_text())
            self.dtype = DTYPES[index["dtype"]]
            self.tokens = int(index["tokens"])
            self.bytes = int(index["bytes"])
            self.documents = int(index["documents"])
            self.vocab_size = int(index["vocab_size"])
            self.tokenizer_digest = str(index["tokenizer_digest"])
            sizes = [(folder / str(shard["file"]), int(shard["tokens"])) for shard in index["shards"]]
        except FileNotFoundError:
            raise UserError(f"shards: {folder / INDEX_FILE} does not exist; name a split of shards") from None
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"shards: {folder / INDEX_FILE} cannot be read ({error!r}); {REMEDY}") from error
        self._maps = [self._map(path, tokens) for path, tokens in sizes]
        self._starts = list(accumulate((tokens for _, tokens in sizes), initial=0))
        if self._starts[-1] != self.tokens:
            listed = f"promises {self.tokens:,} tokens and lists {self._starts[-1]:,}"
            raise UserError(f"shards: {folder / INDEX_FILE} {listed}; {REMEDY}")

    def _map(self, path: Path, tokens: int) -> Tokens:
        held = path.stat().st_size if path.is_file() else 0
        if held % self.dtype.itemsize:
            raise UserError(f"shards: {path} holds {held:,} bytes, no whole number of {self.dtype.name} ids; {REMEDY}")
        if held != tokens * self.dtype.itemsize or not tokens:
            found = held // self.dtype.itemsize
            raise UserError(f"shards: {path} holds {found:,} tokens and the index promises {tokens:,}; {REMEDY}")
        return np.memmap(path, dtype=self.dtype, mode="r")

    def __len__(self) -> int:
        return self.tokens

    def window(self, start: int, length: int) -> Tokens:
        """Return `length` ids from `start` on, across files where need be; raise IndexError outside the stream."""
        end = start + length
        if start < 0 or length < 0 or end > self.tokens:
            raise IndexError(f"shards: ids {start:,} to {end:,} are outside the {self.tokens:,} of {self.folder}")
        pieces = []
        number = bisect_right(self._starts, start) - 1
        while start < end:
            offset = start - self._starts[number]
            piece = self._maps[number][offset : offset + end - start]
            pieces.append(piece)
            start += len(piece)
            number += 1
        return np.concatenate(pieces) if pieces else np.empty(0, self.dtype)


class Samples:
    """The training samples of a split: in each epoch every window once, in an order that the seed and epoch fix.

    Window `w` holds the ids from `w * sequence_length` on and one more, its last target, with which the next window
    begins. So every id is an input once an epoch and a target once, but the very first, and the tail of at most
    `sequence_length` ids that fills no window is left out. Raises UserError when there is no whole window.
    """

    def __init__(self, shards: TokenShards, sequence_length: int, seed: int) -> None:
        self.shards, self.sequence_length, self.seed = shards, sequence_length, seed
        self.windows = (shards.tokens - 1) // sequence_length
        if self.windows < 1:
            raise UserError(
                f"sequence_length: {sequence_length:,} is more than the {shards.tokens:,} tokens of {shards.folder} "
                "allow; make it shorter or give more text"
            )

    def __len__(self) -> int:
        """Return how many samples an epoch has."""
        return self.windows

    def window_of(self, index: int) -> int:
        """Return which window is global sample `index`; indices go on counting from epoch to epoch."""
        epoch, position = divmod(index, self.windows)
        return permute(position, self.windows, seed=self.seed, epoch=epoch)

    def sample(self, index: int) -> NDArray[np.int64]:
        """Return the `sequence_length + 1` ids of global sample `index`."""
        start = self.window_of(index) * self.sequence_length
        return self.shards.window(start, self.sequence_length + 1).astype(np.int64)

    def take(self, start: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets, `[count, sequence_length]` each, of the global samples from `start` on."""
        ids = torch.from_numpy(np.stack([self.sample(index) for index in range(start, start + count)]))
        return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def batch(self, step: int, global_batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets of the whole batch of a step, counted from 0; a rank takes its rows of it."""
        return self.take(step * global_batch, global_batch)
