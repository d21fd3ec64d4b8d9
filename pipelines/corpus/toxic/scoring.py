"""Toxicity in two figures: listed words, found by Aho-Corasick, and a linear classifier over hashed n-grams of letters.

The weights beside this module, `toxicity.safetensors`, are what the stage `train_toxicity` makes of the config in
`toxicity_card.json`, which says from what they are, how good and where they err; that stage makes others. All sums are
of integers, so a score is the same on every processor.
"""

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import ahocorasick
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pipelines.artifacts.errors import UserError

HERE = Path(__file__).parent
WEIGHTS = HERE / "toxicity.safetensors"
WORDS = HERE / "toxicity_words.txt"

BUCKET_BITS = 16
GRAM_LENGTHS = (3, 4, 5)
BLOCK_BYTES = 128
"""Half a window: the classifier learned from sentences, so it reads a document in windows of about that length."""

Array = npt.NDArray[np.int64]


def _letter_table() -> bytes:
    """Return the map of bytes that keeps letters, makes every digit 0, and everything else but `*` a space."""
    kept = {ord("*"), *range(ord("a"), ord("z") + 1), *range(128, 256)}
    return bytes(byte if byte in kept else ord("0") if 48 <= byte < 58 else ord(" ") for byte in range(256))


_LETTERS = _letter_table()


def plain(text: str) -> bytes:
    """Return the text as the classifier reads it: lower-case UTF-8 words, each between single spaces."""
    return b" " + b" ".join(text.lower().encode("utf-8", "replace").translate(_LETTERS).split()) + b" "


def gram_buckets(letters: bytes) -> Iterator[npt.NDArray[np.uint32]]:
    """Yield, for each gram length, the bucket of the n-gram at each byte: FNV-1, then Fibonacci hashing."""
    values = np.frombuffer(letters, np.uint8).astype(np.uint32)
    state = np.full(len(values), 2166136261, np.uint32)
    for length in range(1, GRAM_LENGTHS[-1] + 1):
        starts = max(len(values) - length + 1, 0)
        state = (state[:starts] * np.uint32(16777619)) ^ values[len(values) - starts :]
        if length in GRAM_LENGTHS:
            yield (state * np.uint32(2654435761)) >> np.uint32(32 - BUCKET_BITS)


class Classifier(NamedTuple):
    """A linear model: probability = sigmoid(bias + scale * sum of the n-grams' weights / root of their number)."""

    weights: npt.NDArray[np.int16]
    scale: float
    bias: float

    def score(self, text: str) -> float:
        """Return the highest probability of toxicity over windows of the text, 0 where it has no n-gram."""
        letters = plain(text)
        starts = np.arange(0, len(letters), BLOCK_BYTES)
        totals, counts = np.zeros(len(letters), np.int32), np.zeros(len(starts), np.int64)
        for buckets in gram_buckets(letters):
            totals[: len(buckets)] += self.weights[buckets]
            counts += np.clip(len(buckets) - starts, 0, BLOCK_BYTES)
        if not counts[0]:
            return 0.0
        sums = np.add.reduceat(totals, starts, dtype=np.int64)
        if len(starts) > 1:
            sums, counts = sums[:-1] + sums[1:], counts[:-1] + counts[1:]
        logit = self.bias + self.scale * float((sums / np.sqrt(counts)).max())
        return round(1 / (1 + math.exp(-max(min(logit, 500.0), -500.0))), 6)


@functools.lru_cache(maxsize=4)
def load_classifier(path: Path = WEIGHTS) -> Classifier:
    """Return the classifier whose weights a file holds; raise UserError where they are none of ours."""
    try:
        held = load_file(path)
        weights, scale, bias = held["weights"], float(held["scale"][0]), float(held["bias"][0])
    except (OSError, KeyError, IndexError, SafetensorError) as error:
        raise UserError(f"classifier: {path.name!r} cannot be read ({error}); build train_toxicity again") from error
    if weights.dtype != np.int16 or weights.shape != (1 << BUCKET_BITS,) or not math.isfinite(scale + bias):
        raise UserError(f"classifier: {path.name!r} holds no weights of this version; build train_toxicity again")
    return Classifier(weights, scale, bias)


@functools.cache
def _automaton() -> "ahocorasick.Automaton":
    automaton = ahocorasick.Automaton()
    for word in listed_words():
        automaton.add_word(word, len(word))
    automaton.make_automaton()
    return automaton


def listed_words() -> list[str]:
    """Return the word list, in lower case."""
    lines = WORDS.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def count_listed_words(text: str) -> int:
    """Return how often words of the list stand in the text as whole words, in any case."""
    lowered = text.lower()
    return sum(_is_whole(lowered, last - length + 1, last + 1) for last, length in _automaton().iter(lowered))


def _is_whole(text: str, start: int, end: int) -> bool:
    return not (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum())


def toxicity_score(text: str) -> float:
    """Return the probability, by the weights beside this module, that the text's most toxic window is toxic."""
    return load_classifier().score(text)
