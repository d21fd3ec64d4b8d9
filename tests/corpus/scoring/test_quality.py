"""The statistics of Gopher and C4, against the reference's formulas on real text.

datatrove's filters split English with spaCy, which is not installed here. Its formulas are therefore used as they are,
with our splitter put in its place; `benchmarks/filters.py` compares with spaCy itself.
"""
# ruff: noqa: RUF001 - typographic characters are meant

import argparse
import ast
import inspect
import lzma
import re
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.filters.c4_filters import C4ParagraphFilter
from datatrove.pipeline.filters.gopher_repetition_filter import find_all_duplicate, find_top_duplicate
from datatrove.pipeline.filters.gopher_repetition_filter import get_n_grams as n_grams
from hypothesis import given
from hypothesis import strategies as st

from pipelines.corpus import compiled
from pipelines.corpus.annotation import text_quality
from pipelines.corpus.filter import C4Rules, FilterConfig
from pipelines.corpus.filtering import rules
from pipelines.corpus.scoring import quality, repetition
from pipelines.corpus.scoring.c4 import c4_quality
from pipelines.corpus.scoring.characters import code_points
from pipelines.corpus.scoring.fineweb import fineweb_quality
from pipelines.corpus.scoring.repetition import DUPLICATED, MAX_WORDS, TOP
from pipelines.corpus.scoring.words import count_sentences, splitter


def split_words(text: str) -> list[str]:
    """Return the words of `text`; a mark of punctuation outside a word is a word of its own, as in spaCy."""
    starts, ends = splitter().places(code_points(text))
    return [text[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


@pytest.fixture(scope="session")
def real_texts(shared_data: Path) -> list[str]:
    """News articles, and the docstrings of the standard library: prose, code, tables and lists."""
    with lzma.open(shared_data / "filters" / "articles_100.train.xz", "rt", encoding="utf-8") as file:
        texts = [line.partition(" ")[2] for line in file][:60]
    for module in (argparse, ast, inspect, textwrap):
        tree = ast.parse(Path(inspect.getfile(module)).read_text(encoding="utf-8"))
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
        texts += [found for node in nodes if (found := ast.get_docstring(node))]
    return texts + ["\n".join(texts[start : start + 4]) for start in range(0, 40, 4)]


@pytest.fixture
def native_splitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give datatrove's filters our splitter in place of spaCy's."""
    room = "datatrove.pipeline.filters"
    for module in ("gopher_quality_filter", "gopher_repetition_filter", "fineweb_quality_filter"):
        monkeypatch.setattr(f"{room}.{module}.split_into_words", lambda text, language: split_words(text))
    monkeypatch.setattr(
        f"{room}.c4_filters.split_into_sentences", lambda text, language: [None] * count_sentences(text)
    )


def gopher_quality(text: str) -> dict[str, Any]:
    points = code_points(text)
    return quality.gopher_quality(text, points, *splitter().places(points))


def gopher_repetition(text: str) -> dict[str, Any]:
    points = code_points(text)
    return repetition.gopher_repetition(text, points, *splitter().places(points))


def verdict(text: str, family: Callable[[str], bool]) -> bool:
    row = {"url": "", "language": "en", "language_score": 1.0, **text_quality(text)}
    config = FilterConfig(c4=C4Rules(min_paragraph_length=200))
    return not any(fails(row) for reason, fails in rules(config) if family(reason))


def repeats(reason: str) -> bool:
    return reason.startswith(("gopher_duplicate", "gopher_top"))


@pytest.mark.usefixtures("native_splitter")
def test_gopher_c4_and_fineweb_verdicts_are_those_of_datatrove(real_texts: list[str]) -> None:
    peers = {
        "quality": (GopherQualityFilter(), lambda reason: reason.startswith("gopher") and not repeats(reason)),
        "repetition": (GopherRepetitionFilter(), repeats),
        "c4": (C4QualityFilter(), lambda reason: reason.startswith("c4") and reason != "c4_short_paragraphs"),
        "mc4": (C4ParagraphFilter(), lambda reason: reason == "c4_short_paragraphs"),
        "fineweb": (FineWebQualityFilter(), lambda reason: reason.startswith("fineweb")),
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
        found = gopher_repetition(text)
        for name, expected in reference_repetition(text, split_words(text)).items():
            assert found[name] == pytest.approx(expected, abs=1e-12), (name, text[:200])
            repeated[name] += expected > 0
    assert all(repeated[f"duplicate_{n}_gram_char_ratio"] for n in DUPLICATED)


@given(st.lists(st.sampled_from(["x", "yy", "zzz"]), min_size=1, max_size=60))
def test_repetition_shares_hold_for_any_words(words: list[str]) -> None:
    text = " ".join(words)
    found = gopher_repetition(text)
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
    found = gopher_repetition(text)
    assert found["duplicate_paragraph_ratio"] == pytest.approx(1 / 3)
    assert found["duplicate_paragraph_char_ratio"] == pytest.approx(17 / len(text))
    assert found["duplicate_line_ratio"] == pytest.approx(3 / 5)
    assert found["duplicate_line_char_ratio"] == pytest.approx(24 / len(text))


def test_gopher_statistics_follow_their_formulas() -> None:
    text = "# Title\n- first of the\n• second and ...\nlast 42 !!"
    words = ["#", "Title", "-", "first", "of", "the", "•", "second", "and", "...", "last", "42", "!", "!"]
    assert split_words(text) == words
    found = gopher_quality(text)
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


SPACY: dict[str, str] = {
    "It's os.path.join(a, b), isn't it?": "It 's os.path.join(a , b ) , is n't it ?",
    "1,000.5 at 10:30 see https://a.example/b?c=d. --flag": "1,000.5 at 10:30 see https://a.example/b?c=d . --flag",
    "I'd've gone... (e.g. 10km) by 9am;": "I 'd 've gone ... ( e.g. 10 km ) by 9 am ;",
    "U.S.-made, and/or $5 US$7 C$3 5€ +3": "U.S.-made , and/or $ 5 US$ 7 C$ 3 5 € +3",
    "a+b 3+4 x=y end.Next e-mail: a.b@c.org, 25°C.": "a+b 3 + 4 x = y end . Next e - mail : a.b@c.org , 25 ° C .",
    "http://a.org/x_(y)! ‘tis don’t cannot lets 'em": "http://a.org/x_(y ) ! ‘ tis do n’t can not lets 'em",
    "O'Neil rock'n'roll [1]. A.B. 1990s' wait… so—no": "O'Neil rock'n'roll [ 1 ] . A.B. 1990s ' wait … so — no",
    "3-4 a,b 1,2 a/b 1:2 C++. 你好。 ★star 100%.": "3 - 4 a , b 1,2 a / b 1:2 C++ . 你好 。 ★ star 100 % .",
    "ALL CAPS. (x).": "ALL CAPS . ( x ) .",
}
"""What spaCy 3.8's English tokenizer made of these."""


@pytest.mark.parametrize("text", SPACY)
def test_the_splitter_finds_the_words_that_spacy_finds(text: str) -> None:
    assert split_words(text) == SPACY[text].split()


def test_sentences_are_those_of_spacy() -> None:
    assert count_sentences("Dr. Who paid 3.14 pounds, e.g. in coins. Really? Yes!") == 3
    assert count_sentences('He said "stop." Then he left') == 2
    assert count_sentences("Yes!  No. ) More") == 3
    assert count_sentences("a.b. C d... e") == 2
    assert count_sentences("One line\nand another.\nA third") == 3
    assert count_sentences("") == 0


def test_fineweb_counts_marks_short_lines_repetition_and_line_feeds() -> None:
    text = "A long line that ends like a sentence does.\nshort\n\nshort\nno mark but long enough to be a line"
    assert fineweb_quality(text, 24) == {
        "punctuated_line_ratio": 0.25,
        "short_line_ratio": 0.5,
        "repeated_line_char_ratio": pytest.approx(5 / (len(text) - 4)),
        "line_feed_word_ratio": pytest.approx(4 / 24),
    }
    assert set(fineweb_quality(" \n\t\n", 0).values()) == {0}


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
        "c4_javascript_lines": 1,
        "c4_policy_lines": 1,
        "c4_paragraph_length": 27,
    }
    assert c4_quality("A line with { in it.")["c4_curly_bracket"]
    assert not c4_quality("int main() {")["c4_curly_bracket"]
    assert c4_quality("Then lorem ipsum dolor sit amet.")["c4_lorem_ipsum"]


def test_the_n_grams_of_a_huge_document_are_those_of_its_first_words() -> None:
    text = "one two three four five six " * (2 * MAX_WORDS // 6)
    found = gopher_repetition(text)
    half = gopher_repetition(text[: len(text) // 2])
    assert found["duplicate_5_gram_char_ratio"] == pytest.approx(half["duplicate_5_gram_char_ratio"], rel=1e-3)


@pytest.mark.parametrize(
    "text", ["", "\x00", "\n\n", " ", "\ufffd" * 1000, "a" + "\u0301" * 5000, "!" * 2000, "\ud800x"]
)
def test_hostile_texts_have_finite_statistics(text: str) -> None:
    assert all(0 <= value <= max(len(text), 2) for value in text_quality(text).values())


@given(st.one_of(st.text(), st.text(st.sampled_from("aB1.,'’-/:#@… \n[]{}")), st.text(st.characters())))
def test_any_text_has_statistics_within_their_bounds(text: str) -> None:
    assert "".join(split_words(text)) == "".join(text.split())
    found = text_quality(text)
    assert all(value >= 0 for value in found.values())
    shares = [name for name in found if name.endswith("_ratio") and name not in UNBOUNDED]
    assert all(found[name] <= 1 for name in shares)
    assert found["c4_lines"] + found["c4_javascript_lines"] + found["c4_policy_lines"] <= found["lines"]
    assert found["stop_words"] <= min(found["words"], 8)


UNBOUNDED = {
    "hash_word_ratio",
    "ellipsis_word_ratio",
    "line_feed_word_ratio",
    *(f"top_{n}_gram_char_ratio" for n in TOP),
}
"""Marks and line feeds come more than once a word; an n-gram may overlap itself."""


@given(st.text(st.sampled_from("abAB .!?,’'12\n"), max_size=200))
def test_repeated_lines_and_paragraphs_are_split_as_the_reference_splits_them(text: str) -> None:
    assert repetition.lines(text) == re.split(r"\n+", text)
    assert repetition.paragraphs(text) == re.split(r"\n{2,}", text.strip())


def test_a_kernel_is_compiled_anew_when_its_source_or_one_that_it_imports_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compiled, "HERE", tmp_path)
    (tmp_path / "kernel.py").write_text(
        "from pipelines.corpus.compiled import compiled\nfrom pipelines.corpus.one import ONE"
    )
    (tmp_path / "one.py").write_text("ONE = 1")
    (tmp_path / "other.py").write_text("")
    digest = compiled._sources.__wrapped__
    before = digest()
    (tmp_path / "other.py").write_text("OTHER = 1")
    assert digest() == before
    (tmp_path / "one.py").write_text("ONE = 2")
    assert digest() != before


def test_kernels_work_where_no_folder_can_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert compiled._folder.__wrapped__(str(tmp_path / "file")) is None
    assert compiled._folder.__wrapped__(str(tmp_path / "asked")).parent == tmp_path / "asked"
    monkeypatch.setattr(compiled, "_folder", lambda asked: None)
    assert compiled.compiled(_twice)(4) == 8


def _twice(number: int) -> int:
    return 2 * number
