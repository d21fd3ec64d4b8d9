import sys
from collections.abc import Sequence

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from pipelines.corpus.duplicates import shingling
from pipelines.corpus.duplicates.shingling import Shingled, shingle_texts
from pipelines.corpus.ngrams import normalised, shingles

ANY_TEXT = st.text(st.characters(), max_size=60)
"""All of Unicode, lone surrogates too."""
MIXED = st.text(
    st.sampled_from("aBç ß\u00a0\u0301\u0345ﬁ½日本\u1100\u1161\u11a8한İΣς٣_-'\n\u2028\ufdfa\u0e33ำ😀\u200d"),
    max_size=40,
)


def packed(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    return np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([0, *map(len, encoded)])


def assert_equal_to_the_reference(texts: Sequence[str], n: int) -> None:
    found = shingle_texts(*packed(texts), n)
    starts = np.cumsum(found.sizes) - found.sizes
    for number, text in enumerate(texts):
        own = found.shingles[starts[number] : starts[number] + found.sizes[number]]
        assert own.tolist() == shingles(text, n).tolist(), ascii(text)
    assert found.lengths.tolist() == [len(text) for text in texts]
    forms = [normalised(text).encode("utf-8", "surrogatepass") for text in texts]
    assert found.digests == [xxhash.xxh3_128_digest(form) for form in forms]


@given(st.lists(ANY_TEXT | MIXED, max_size=6), st.integers(1, 6))
def test_the_kernel_gives_the_shingles_digests_and_lengths_of_plain_python(texts: list[str], n: int) -> None:
    assert_equal_to_the_reference(texts, n)


@pytest.mark.parametrize("codes", [range(0x3000), range(0xA000, 0x11000)], ids=["first scripts", "end of the plane"])
def test_the_kernel_knows_every_code_point_between_letters(codes: range) -> None:
    assert_equal_to_the_reference(
        ["".join(f"a{chr(code)}b {chr(code)} " for code in codes[at::97]) for at in range(97)], 2
    )


@pytest.mark.slow
def test_the_kernel_knows_all_of_unicode_between_letters() -> None:
    for start in (*range(0, 0x34000, 0x4000), 0xE0000):
        texts = [f"a{chr(code)}b {chr(code)} c{chr(code)}" for code in range(start, start + 0x4000)]
        assert_equal_to_the_reference(texts, 2)
    empty = (*range(0x34000, 0xE0000, 0x1000), *range(0xE4000, sys.maxunicode, 0x1000))
    texts = ["".join(f"a{chr(code)}b " for code in range(start, start + 0x1000)) for start in empty]
    assert_equal_to_the_reference(texts, 2)


def test_texts_in_pieces_are_as_texts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"word{number} " * (number % 7) + "é\u0301 ½" * (number % 2) for number in range(50)]
    whole = shingle_texts(*packed(texts), 3)
    monkeypatch.setattr(shingling, "PIECE_BYTES", 40)
    pieces: Shingled = shingle_texts(*packed(texts), 3)
    assert pieces.digests == whole.digests
    assert pieces.shingles.tolist() == whole.shingles.tolist()


def test_an_expanding_code_point_fills_no_buffer_beyond_its_end() -> None:
    assert_equal_to_the_reference(["\ufdfa" * 5_000, "\u3300" * 5_000, "㏂" * 5_000], 1)


def test_no_text_is_no_shingle() -> None:
    found = shingle_texts(np.empty(0, np.uint8), np.zeros(1, np.int64), 5)
    assert (found.digests, len(found.shingles)) == ([], 0)
