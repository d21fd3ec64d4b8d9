"""The loader's tokens a second beside datatrove's reader and a plain copy in memory, on one thread.

Both read the same ids into batches of 64 rows of 512 inputs and their targets, in int64: ours in the seed's order, and
as a mixture of three corpora; datatrove's in the order of the file, which is the one it is made for. Every row of ours
is compared with the stream. Times are CPU seconds in turn, medians of five. The last line is one JSON object.
"""

import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from datatrove.utils.dataset import DatatroveFileDataset
from numpy.typing import NDArray
from support.claims import claim

from pipelines.tokens.loader import Samples, TokenShards
from pipelines.tokens.mixing import Corpus, Mixture, seed_of

TOKENS, FILES = 1 << 25, 4
LENGTH, ROWS, BATCHES, ROUNDS = 512, 64, 128, 5
TARGET = 10e6
"""Tokens a second, of one thread: several times what the largest GPU trains at 124 M parameters."""

Batch = tuple[torch.Tensor, torch.Tensor]
Take = Callable[[int], Batch]


def write(folder: Path) -> tuple[NDArray[np.uint16], TokenShards]:
    """Write random ids as shards and as one `.ds` file, and return both the ids and the shards."""
    stream = np.random.default_rng(0).integers(0, 50_000, TOKENS).astype("<u2")
    stream.tofile(folder / "ids.ds")
    shards = []
    for number, piece in enumerate(np.split(stream, FILES)):
        name, data = f"shard-{number:05d}.bin", piece.tobytes()
        (folder / name).write_bytes(data)
        shards.append({"file": name, "tokens": len(piece), "sha256": hashlib.sha256(data).hexdigest()})
    described = {"dtype": "uint16", "vocab_size": 50_000, "tokenizer_digest": "none", "documents": 1}
    index = {**described, "tokens": TOKENS, "bytes": TOKENS, "shards": shards}
    (folder / "index.json").write_text(json.dumps(index))
    return stream, TokenShards(folder)


def ours(shards: TokenShards, weights: tuple[float, ...]) -> Take:
    """Return how a step's batch is read from corpora of these weights."""
    corpora = [Corpus(Samples(shards, LENGTH, seed_of(0, number)), weight) for number, weight in enumerate(weights)]
    mixture = Mixture(corpora)
    return lambda step: mixture.take(step * ROWS, ROWS)


def datatrove(path: Path) -> Take:
    """Return how datatrove's reader and a stack give the same shapes."""
    read = DatatroveFileDataset(str(path), LENGTH, token_size=2)

    def take(step: int) -> Batch:
        rows = [read[number]["input_ids"] for number in range(step * ROWS, (step + 1) * ROWS)]
        ids = torch.stack(rows)
        return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    return take


def compare(take: Take, shards: TokenShards, stream: NDArray[np.uint16]) -> None:
    """End the run unless every row is the window of the stream that its number draws."""
    windows = Samples(shards, LENGTH, 0).windows_of(np.arange(BATCHES * ROWS))
    starts = iter(windows.tolist())
    for step in range(BATCHES):
        for inputs, targets in zip(*take(step), strict=True):
            start = next(starts) * LENGTH
            expected = np.append(stream[start : start + LENGTH + 1], stream[:1])[: LENGTH + 1].tolist()
            if inputs.tolist() != expected[:-1] or targets.tolist() != expected[1:]:
                raise SystemExit(f"the row at {start:,} is not the stream's")


def cpu_seconds(work: Callable[[int], object], steps: range) -> float:
    """Return the CPU seconds that the steps take."""
    start = time.process_time()
    for step in steps:
        work(step)
    return time.process_time() - start


def main() -> None:
    """Measure and print the claims."""
    torch.set_num_threads(1)
    source, copied = np.ones(1 << 24), np.empty(1 << 24)
    with tempfile.TemporaryDirectory() as folder:
        stream, shards = write(Path(folder))
        readers = {
            "ours": ours(shards, (1.0,)),
            "mixture": ours(shards, (0.7, 0.2, 0.1)),
            "datatrove": datatrove(Path(folder) / "ids.ds"),
        }
        compare(readers["ours"], shards, stream)
        seconds: dict[str, list[float]] = {name: [] for name in (*readers, "copy")}
        for number in range(ROUNDS):
            for name, take in readers.items():
                seconds[name].append(cpu_seconds(take, range(number * BATCHES, (number + 1) * BATCHES)))
            seconds["copy"].append(cpu_seconds(lambda _: np.copyto(copied, source), range(1)))
    median = {name: statistics.median(taken) for name, taken in seconds.items()}
    rates = {name: BATCHES * ROWS * LENGTH / median[name] for name in readers}
    written, copy = 16 * rates["ours"] / 1e9, source.nbytes / median["copy"] / 1e9
    print(f"batches: {written:.2f} GB/s written; a copy in memory: {copy:.2f} GB/s")
    claims = [
        claim("loader, tokens/s", rates["ours"], TARGET, at_most=False, peer=rates["datatrove"]),
        claim("mixture of three corpora, tokens/s", rates["mixture"], TARGET, at_most=False, peer=rates["datatrove"]),
    ]
    print(json.dumps({"name": "loader", "claims": claims}))


if __name__ == "__main__":
    main()
