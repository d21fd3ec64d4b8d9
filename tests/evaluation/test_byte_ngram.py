"""The byte n-gram baseline against a dictionary that counts one by one."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.evaluation import byte_ngram
from pipelines.evaluation.byte_ngram import SMOOTHING, ByteNgram

texts = st.lists(st.binary(max_size=30), max_size=6)


def naive_bits(train: list[bytes], document: bytes, k: float, order: int) -> float:
    """Bits of a document, counted as the formula reads."""
    grams, contexts = Counter(), Counter()
    for text in train:
        padded = bytes(order - 1) + text
        for place in range(order - 1, len(padded)):
            grams[padded[place - order + 1 : place + 1]] += 1
            contexts[padded[place - order + 1 : place]] += 1
    padded = bytes(order - 1) + document
    total = 0.0
    for place in range(order - 1, len(padded)):
        gram, context = padded[place - order + 1 : place + 1], padded[place - order + 1 : place]
        total -= math.log2((grams[gram] + k) / (contexts[context] + 256 * k))
    return total


@settings(max_examples=60)
@given(texts, texts, st.sampled_from(SMOOTHING), st.integers(1, 4))
def test_every_document_costs_the_bits_that_counting_by_hand_gives(
    train: list[bytes], heldout: list[bytes], k: float, order: int
) -> None:
    bits = ByteNgram(train, order).bits(heldout, k)
    assert bits == pytest.approx([naive_bits(train, text, k, order) for text in heldout], abs=1e-9)


def test_counts_do_not_depend_on_how_the_text_is_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(1)
    train = [draw.integers(97, 103, 200, dtype=np.uint8).tobytes() for _ in range(20)]
    whole = ByteNgram(train)
    monkeypatch.setattr(byte_ngram, "BLOCK_BYTES", 500)
    assert np.array_equal(whole.bits(train, 0.1), ByteNgram(train).bits(train, 0.1))
    assert whole.bytes == 4_000


def test_probabilities_after_any_context_sum_to_one() -> None:
    model = ByteNgram([b"abracadabra"])
    documents = [b"bra" + bytes([byte]) for byte in range(256)]
    first_three = model.bits([b"bra"], 0.01)[0]
    assert np.sum(2.0 ** -(model.bits(documents, 0.01) - first_three)) == pytest.approx(1.0)


def test_the_best_smoothing_is_the_one_with_the_fewest_bits() -> None:
    model = ByteNgram([b"the cat sat on the mat"] * 50)
    k, bits = model.best([b"the cat sat"])
    assert k == 0.001
    assert bits.sum() == min(model.bits([b"the cat sat"], k).sum() for k in SMOOTHING)


def test_a_gram_that_fits_no_word_of_32_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="order 5"):
        ByteNgram([], 5)
