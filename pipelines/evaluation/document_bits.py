"""How many bits a model spends on a token of each of some documents, read from token shards."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from pipelines.models.loading import load_model
from pipelines.tokens.loader import PAD_ID, TokenShards
from pipelines.tokens.spans import SPANS_FILE

BATCH = 16
"""Documents computed at once, of about one length."""


def draw_ids(
    folders: Iterable[Path], most: int, max_tokens: int, draw: Callable[[str], int]
) -> list[NDArray[np.int64]]:
    """Return the first ids of at most `most` documents of the splits, those whose names have the smallest draws.

    A document of nothing but its `<|bos|>` has no bits to count and is passed over.
    """
    found: list[tuple[int, int, int, int]] = []
    shards = [TokenShards(folder) for folder in folders]
    for number, split in enumerate(shards):
        with pq.ParquetFile(split.folder / SPANS_FILE) as file:
            for batch in file.iter_batches():
                rows = zip(
                    *(batch.column(name).to_pylist() for name in ("document_id", "start", "length")), strict=True
                )
                found += [(draw(name), number, start, length) for name, start, length in rows if length > 1]
                if len(found) > 2 * most:
                    found = sorted(found)[:most]
    return [
        shards[number].window(start, min(length, max_tokens + 1)).astype(np.int64)
        for _, number, start, length in sorted(found)[:most]
    ]


@torch.inference_mode()
def bits_per_token(model: Path, documents: list[NDArray[np.int64]], device: str) -> list[float]:
    """Return the mean bits of each document's tokens behind its first, which is the logarithm of its perplexity."""
    loaded = load_model(model, dtype=torch.float32, device=device)
    order = sorted(range(len(documents)), key=lambda place: (len(documents[place]), place))
    bits = [0.0] * len(documents)
    for first in range(0, len(order), BATCH):
        places = order[first : first + BATCH]
        longest = len(documents[places[-1]])
        ids = torch.full((len(places), longest), PAD_ID)
        counts = torch.zeros(len(places), longest - 1, dtype=torch.bool)
        for row, place in enumerate(places):
            ids[row, : len(documents[place])] = torch.from_numpy(documents[place])
            counts[row, : len(documents[place]) - 1] = True
        # What follows a document's end cannot change what stands before it, so the padding needs no mask.
        logits = loaded(input_ids=ids[:, :-1].to(device)).logits.float().cpu()
        losses = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none") * counts
        for place, total, count in zip(places, losses.sum(1).tolist(), counts.sum(1).tolist(), strict=True):
            bits[place] = total / count / math.log(2)
    return bits
