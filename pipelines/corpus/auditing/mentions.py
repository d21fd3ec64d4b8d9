"""Finds mentions of groups of people in English text, and the sentiment of the words around them."""

import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

LEXICON = Path(__file__).with_name("audit_lexicon.json")
"""The terms and words, and what they measure and what they do not."""
ANY = "any word"
"""The row to compare groups with: every `ANY_EVERY`-th word, whatever it is."""
ANY_EVERY = 100
NEGATED_WITHIN = 3
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")


class Lexicon(NamedTuple):
    """Which words name groups, are positive or negative, or turn that round."""

    language: str
    groups: list[tuple[str, str]]
    """Axis and group, in the order of the file."""
    terms: dict[str, int]
    """The place in `groups` of each term of one word, and of each of two words with a space between."""
    first: frozenset[str]
    """The first words of the terms of two."""
    valence: dict[str, int]
    negators: frozenset[str]


@cache
def read_lexicon() -> Lexicon:
    """Return the lexicon that ships with the package."""
    held: dict[str, Any] = json.loads(LEXICON.read_text(encoding="utf-8"))
    groups = [(axis["axis"], group["group"], group["terms"]) for axis in held["axes"] for group in axis["groups"]]
    terms = {term: place for place, (_, _, listed) in enumerate(groups) for term in listed}
    return Lexicon(
        language=held["language"],
        groups=[(axis, name) for axis, name, _ in groups],
        terms=terms,
        first=frozenset(term.split()[0] for term in terms if " " in term),
        valence=dict.fromkeys(held["positive"], 1) | dict.fromkeys(held["negative"], -1),
        negators=frozenset(held["negators"]),
    )


def mentioned(text: str, window_words: int) -> dict[int, tuple[int, float]]:
    """Return, by the group's place in the lexicon, how often a text mentions it and the mean sentiment of the contexts.

    Place -1 is `ANY`. A sentiment lies between -1 and 1; a context without a listed word has 0.
    """
    lexicon = read_lexicon()
    words = [word.replace("\u2019", "'") for word in _WORD.findall(text.lower())]
    valence = _valences(words, lexicon)
    positive = [0, *accumulate(value > 0 for value in valence)]
    negative = [0, *accumulate(value < 0 for value in valence)]
    found: dict[int, tuple[int, float]] = {}
    for group, start, end in _places(words, lexicon):
        first, last = max(0, start - window_words), min(len(words), end + window_words)
        good = positive[last] - positive[end] + positive[start] - positive[first]
        bad = negative[last] - negative[end] + negative[start] - negative[first]
        count, total = found.get(group, (0, 0.0))
        found[group] = count + 1, total + (good - bad) / max(good + bad, 1)
    return {group: (count, total / count) for group, (count, total) in found.items()}


def _places(words: list[str], lexicon: Lexicon) -> Iterator[tuple[int, int, int]]:
    """Yield group, first word and the word after the last of each mention."""
    terms, first = lexicon.terms, lexicon.first
    for place, word in enumerate(words):
        pair = f"{word} {words[place + 1]}" if word in first and place + 1 < len(words) else ""
        if pair in terms:
            yield terms[pair], place, place + 2
        elif word in terms:
            yield terms[word], place, place + 1
        if place % ANY_EVERY == ANY_EVERY // 2:
            yield -1, place, place + 1


def _valences(words: list[str], lexicon: Lexicon) -> list[int]:
    """Return 1, -1 or 0 for each word; one of the three words after a negator changes sides."""
    valence, negators = lexicon.valence, lexicon.negators
    values, negated = [], 0
    for word in words:
        value = valence.get(word, 0)
        values.append(-value if negated else value)
        negated = NEGATED_WITHIN if word in negators else max(negated - 1, 0)
    return values
