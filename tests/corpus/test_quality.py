"""The statistics of Gopher and C4, against the reference's formulas on real text.

datatrove's filters split English with spaCy, which is not installed here. Its formulas are therefore used as they are,
with our splitter put in its place; how near the splitter comes to spaCy is a figure of the benchmarks.
"""

import argparse
import ast
import inspect
import lzma
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters.gopher_repetition_filter import find_all_duplicate, find_top_duplicate
from datatrove.pipeline.filters.gopher_repetition_filter import get_n_grams as n_grams
from hypothesis import given
from hypothesis import strategies as st

from pipelines.corpus.c4 import c4_quality
from pipelines.corpus.filter import FilterConfig
from pipelines.corpus.filtering import rules
from pipelines.corpus.quality import gopher_quality
from pipelines.corpus.repetition import DUPLICATED, MAX_WORDS, TOP, gopher_repetition
from pipelines.corpus.words import count_sentences, split_words


@pytest.fixture(scope="session")
def real_texts(shared_data: Path) -> list[str]:
    """News articles, and the docstrings of the standard library: prose, code, tables and lists."""
    with lzma.open(shared_data / "filters" / "articles_100.train.xz", "rt", encoding="utf-8") as file:
        texts = [line.partition(" ")[2] for line in file][:60]
    for module in (argparse, ast, inspect, textwrap):
        tree = ast.parse(Path(inspect.getfile(module)).read_text(encoding="utf-8"))
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
        texts += [found for node in nodes if (found := ast.get_docstring(node))]
    return texts


@pytest.fixture
def native_splitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give datatrove's filters our splitter in place of spaCy's."""
    room = "datatrove.pipeline.filters"
    for module in ("gopher_quality_filter", "gopher_repetition_filter"):
        monkeypatch.setattr(f"{room}.{module}.split_into_words", lambda text, language: split_words(text))
    monkeypatch.setattr(
        f"{room}.c4_filters.split_into_sentences", lambda text, language: [None] * count_sentences(text)
    )


def verdict(text: str, family: Callable[[str], bool]) -> bool:
    row = {**gopher_quality(text, Counter(split_words(text))), **gopher_repetition(text, split_words(text))}
    row |= c4_quality(text)
    return not any(fails(row) for reason, fails in rules(FilterConfig()) if family(reason))


def repeats(reason: str) -> bool:
    return reason.startswith(("gopher_duplicate", "gopher_top"))


@pytest.mark.usefixtures("native_splitter")
def test_gopher_and_c4_verdicts_are_those_of_datatrove(real_texts: list[str]) -> None:
    peers = {
        "quality": (GopherQualityFilter(), lambda reason: reason.startswith("gopher") and not repeats(reason)),
        "repetition": (GopherRepetitionFilter(), repeats),
        "c4": (C4QualityFilter(), lambda reason: reason.startswith("c4")),
    }
    for name, (peer, family) in peers.items():
        seen = Counter()
        for text in real_texts:
            reference = peer.filter(Document(text=text, id="")) is True
            assert verdict(text, family) == reference, (name, text[:200])
            seen[reference] += 1
        assert min(seen[True], seen[False]) >= 3, (name, seen)


def test_repetition_shares_are_those_of_the_reference(real_texts: list[str]) -> None:
    repeated = Counter()
    for text in real_texts:
        found = gopher_repetition(text, split_words(text))
        for name, expected in reference_repetition(text, split_words(text)).items():
            assert found[name] == pytest.approx(expected, abs=1e-12), (name, text[:200])
            repeated[name] += expected > 0
    assert all(repeated[f"duplicate_{n}_gram_char_ratio"] for n in DUPLICATED)


@given(st.lists(st.sampled_from(["x", "yy", "zzz"]), min_size=1, max_size=60))
def test_repetition_shares_hold_for_any_words(words: list[str]) -> None:
    text = " ".join(words)
    found = gopher_repetition(text, words)
    expected = reference_repetition(text, words)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def reference_repetition(text: str, words: list[str]) -> dict[str, float]:
    """Return the shares of n-grams by datatrove's own functions."""
    grams = {n: n_grams(words, n) for n in TOP}
    top = {f"top_{n}_gram_char_ratio": find_top_duplicate(grams[n]) / len(text) if grams[n] else 0.0 for n in TOP}
    longer = {f"duplicate_{n}_gram_char_ratio": find_all_duplicate(words, n) / len(text) for n in DUPLICATED}
    return top | longer


def test_repeated_lines_and_paragraphs_are_shares_of_their_number_and_of_all_characters() -> None:
    text = "one line\none line\n\nanother\n\none line\none line"
    found = gopher_repetition(text, split_words(text))
    assert found["duplicate_paragraph_ratio"] == pytest.approx(1 / 3)
    assert found["duplicate_paragraph_char_ratio"] == pytest.approx(17 / len(text))
    assert found["duplicate_line_ratio"] == pytest.approx(3 / 5)
    assert found["duplicate_line_char_ratio"] == pytest.approx(24 / len(text))


def test_gopher_statistics_follow_their_formulas() -> None:
    text = "# Title\n- first of the\n• second and ...\nlast 42 !!"
    words = ["#", "Title", "-", "first", "of", "the", "•", "second", "and", "...", "last", "42", "!", "!"]
    assert split_words(text) == words
    found = gopher_quality(text, Counter(words))
    assert found == {
        "words": 9,
        "mean_word_length": pytest.approx(
            sum(map(len, ["Title", "first", "of", "the", "•", "second", "and", "last", "42"])) / 9
        ),
        "hash_word_ratio": pytest.approx(1 / 14),
        "ellipsis_word_ratio": pytest.approx(1 / 14),
        "bullet_line_ratio": 0.5,
        "ellipsis_line_ratio": 0.25,
        "alpha_word_ratio": 0.5,
        "stop_words": 3,
    }


def test_the_splitter_treats_code_and_contractions_as_spacy_does() -> None:
    assert split_words("It's os.path.join(a, b), isn't it?") == [
        *("It", "'s", "os.path.join(a", ",", "b", ")", ",", "isn", "'t", "it", "?"),
    ]
    assert split_words("1,000.5 at 10:30 see https://a.example/b?c=d. well-known --flag") == [
        *("1,000.5", "at", "10:30", "see", "https://a.example/b?c=d.", "well", "-", "known", "--flag"),
    ]


def test_sentences_end_at_marks_but_not_at_abbreviations_or_decimals() -> None:
    assert count_sentences("Dr. Who paid 3.14 pounds, e.g. in coins. Really? Yes!") == 3
    assert count_sentences('He said "stop." Then he left') == 2
    assert count_sentences("") == 0


def test_c4_retains_lines_that_end_like_sentences() -> None:
    lines = [
        "Menu",
        "This is a sentence. This is another one.",
        "Enable JavaScript to go on.",
        "Read our privacy policy now.",
        "One two.",
        "Wait for it...",
    ]
    text = "\n".join(lines)
    assert c4_quality(text) == {
        "lines": 6,
        "c4_lines": 1,
        "c4_sentences": 2,
        "c4_lorem_ipsum": False,
        "c4_curly_bracket": False,
    }
    assert c4_quality("A line with { in it.")["c4_curly_bracket"]
    assert not c4_quality("int main() {")["c4_curly_bracket"]
    assert c4_quality("Then lorem ipsum dolor sit amet.")["c4_lorem_ipsum"]


def test_the_n_grams_of_a_huge_document_are_those_of_its_first_words() -> None:
    text = "one two three four five six " * (2 * MAX_WORDS // 6)
    found = gopher_repetition(text, split_words(text))
    half = gopher_repetition(text[: len(text) // 2], split_words(text)[:MAX_WORDS])
    assert found["duplicate_5_gram_char_ratio"] == pytest.approx(half["duplicate_5_gram_char_ratio"], rel=1e-3)


@pytest.mark.parametrize("text", ["", "\x00", "\n\n", " ", "\ufffd" * 1000, "a" + "\u0301" * 5000, "!" * 2000])
def test_hostile_texts_have_finite_statistics(text: str) -> None:
    words = split_words(text)
    for found in (gopher_quality(text, Counter(words)), gopher_repetition(text, words), c4_quality(text)):
        assert all(0 <= value <= max(len(text), 2) for value in found.values())


@given(st.text())
def test_any_text_has_statistics(text: str) -> None:
    words = split_words(text)
    assert "".join(words) == "".join(text.split()) or not text.isascii()
    found = gopher_quality(text, Counter(words)) | gopher_repetition(text, words) | c4_quality(text)
    assert all(value >= 0 for value in found.values())
    assert found["alpha_word_ratio"] <= 1
