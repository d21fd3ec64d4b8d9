"""Token shards read through memory maps, and the training samples that a seed draws from them.

The order of samples belongs to the data and the seed alone: sample `i` is the same at any batch size and any number
of workers, so the whole state of a loader is the index of its next sample.
"""

import json
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import file_digest
from pipelines.pretraining.losses import IGNORED
from pipelines.tokens.permutation import Integers, drawn, permute
from pipelines.tokens.special import PAD, SPECIAL_TOKENS

Tokens: TypeAlias = NDArray[np.unsignedinteger[Any]]
"""Ids of 16 or 32 bits, as the index says."""

INDEX_FILE = "index.json"
DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
REMEDY = "run `gristmill artifacts verify` and build it again"
PAD_ID = SPECIAL_TOKENS.index(PAD)
BLOCK = 1 << 12
"""Samples whose windows are drawn at once: a few of them would cost nearly as much."""


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
            sizes = [(_inside(folder, shard["file"]), int(shard["tokens"])) for shard in index["shards"]]
            self._checksums = {folder / shard["file"]: shard.get("sha256") for shard in index["shards"]}
        except FileNotFoundError:
            raise UserError(f"shards: {folder / INDEX_FILE} does not exist; name a split of shards") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise UserError(f"shards: {folder / INDEX_FILE} cannot be read ({error!r}); {REMEDY}") from error
        if self.vocab_size > np.iinfo(self.dtype).max + 1:
            known = f"says {self.dtype.name} ids for a vocabulary of {self.vocab_size:,}"
            raise UserError(f"shards: {folder / INDEX_FILE} {known}, which they cannot number; {REMEDY}")
        self.files = [path for path, _ in sizes]
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
        return np.memmap(path, dtype=self.dtype, mode="r").view(np.ndarray)  # slices of a plain array are cheaper

    def __len__(self) -> int:
        return self.tokens

    def verify(self) -> None:
        """Read every file and raise UserError, naming it, where its bytes are not those that the index was made of.

        The store does this for what lies in it before each build; here it is for shards that come from elsewhere.
        """
        for path, promised in self._checksums.items():
            found = file_digest(path)
            if found != promised:
                known = f"has checksum {found[:12]} and the index promises {str(promised)[:12]}"
                raise UserError(f"shards: {path} {known}; {REMEDY}, or copy it again")

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

    def rows(self, starts: Integers, length: int) -> Tokens:
        """Return `length` ids from each of `starts` on, `[starts, length]`; all must lie inside the stream."""
        bounds = np.array(self._starts)
        files = np.searchsorted(bounds, starts, side="right") - 1
        whole = starts + length <= bounds[files + 1]
        found: Tokens = np.empty((len(starts), length), self.dtype)
        for number in np.unique(files[whole]):
            chosen = whole & (files == number)
            windows: Tokens = _windows(self._maps[number], length)[starts[chosen] - bounds[number]]
            if len(windows) == len(found):
                return windows
            found[chosen] = windows
        for row in np.flatnonzero(~whole):  # at most one a file
            found[row] = self.window(int(starts[row]), length)
        return found


def _windows(ids: Tokens, length: int) -> Tokens:
    """Return all windows of the ids, `[places, length]`, as a view: numpy's own way to it takes 50 times as long."""
    shape, step = (len(ids) - length + 1, length), ids.itemsize
    return np.ndarray(shape, ids.dtype, buffer=ids, strides=(step, step))


def _inside(folder: Path, name: str) -> Path:
    """Return a file of the folder; raise ValueError for a name that leads out of it."""
    if Path(name).name != name:
        raise ValueError(f"{name!r} is no file name")
    return folder / name


def to_batch(ids: Tokens, counts: Integers) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs and targets of rows that hold so many inputs and one more id; what follows is padding."""
    inputs, targets = ids[:, :-1].astype(np.int64), ids[:, 1:].astype(np.int64)
    for row in np.flatnonzero(counts < inputs.shape[1]):
        inputs[row, counts[row] :], targets[row, counts[row] :] = PAD_ID, IGNORED
    return torch.from_numpy(inputs), torch.from_numpy(targets)


class Samples:
    """The training samples of a split: in each epoch every window once, in an order that the seed and epoch fix.

    Window `w` has the ids from `w * sequence_length` on as inputs and each one's successor as its target. The last
    window is what is left, padded with ids that no target counts. The successor of the stream's last id is its first,
    a `<|bos|>` as behind any other document. So in an epoch every id is an input once and a target once. Raises
    UserError when the split does not fill one window.
    """

    def __init__(self, shards: TokenShards, sequence_length: int, seed: int) -> None:
        self.shards, self.sequence_length, self.seed = shards, sequence_length, seed
        self.windows = -(-shards.tokens // sequence_length)
        self._drawn = lru_cache(maxsize=4)(self._draw)
        self.tail = shards.tokens - (self.windows - 1) * sequence_length
        if shards.tokens < sequence_length:
            raise UserError(
                f"sequence_length: {sequence_length:,} is more than the {shards.tokens:,} tokens of {shards.folder} "
                "allow; make it shorter or give more text"
            )

    def __len__(self) -> int:
        """Return how many samples an epoch has."""
        return self.windows

    def windows_of(self, numbers: Integers) -> Integers:
        """Return which windows are these global samples; numbers go on counting from epoch to epoch."""
        blocks = numbers // BLOCK
        found = np.empty_like(numbers)
        for block in np.unique(blocks).tolist():
            inside = blocks == block
            found[inside] = self._drawn(block)[numbers[inside] - block * BLOCK]
        return found

    def _draw(self, block: int) -> Integers:
        return drawn(np.arange(block * BLOCK, (block + 1) * BLOCK), self.windows, seed=self.seed)

    def read(self, numbers: Integers) -> tuple[Tokens, Integers]:
        """Return `sequence_length` ids and one more of each global sample, and how many of them are inputs."""
        windows, length = self.windows_of(numbers), self.sequence_length
        last = windows == self.windows - 1
        if not last.any():
            return self.shards.rows(windows * length, length + 1), np.full(len(windows), length)
        ids = np.empty((len(windows), length + 1), self.shards.dtype)
        ids[~last] = self.shards.rows(windows[~last] * length, length + 1)
        ids[last, : self.tail] = self.shards.window(self.shards.tokens - self.tail, self.tail)
        ids[last, self.tail :] = self.shards.window(0, 1)
        return ids, np.where(last, self.tail, length)

    def take(self, start: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets, `[count, sequence_length]` each, of the global samples from `start` on."""
        return to_batch(*self.read(np.arange(start, start + count)))

    def spans(self, numbers: Integers) -> list[tuple[int, int]]:
        """Return where the inputs of these global samples start and end in the stream."""
        starts = self.windows_of(numbers) * self.sequence_length
        ends = np.minimum(starts + self.sequence_length, self.shards.tokens)
        return list(zip(starts.tolist(), ends.tolist(), strict=True))

    def tokens_before(self, number: int) -> int:
        """Return how many targets the global samples before `number` have."""
        epochs, left = divmod(number, self.windows)
        last, epoch = np.array([self.windows - 1]), np.array([epochs])
        short = permute(last, self.windows, seed=self.seed, epochs=epoch, inverse=True)[0] < left
        padding = self.sequence_length - self.tail if short else 0
        return epochs * self.shards.tokens + left * self.sequence_length - padding
