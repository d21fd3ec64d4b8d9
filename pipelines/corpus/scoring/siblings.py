"""Words that tell a language from those that the model takes it for: a vote among near relations.

The model decides by strings of letters, which near relations share; their commonest words often differ. `siblings.txt`
has a line a language: its code, then words that primers of it open with.
"""

import re
from collections.abc import Iterable
from pathlib import Path

MISSED = {
    "da": "no",
    "no": "da",
    "sr": "hr bs sl",
    "hr": "bs sl",
    "sh": "hr bs sl",
    "es": "cbk ast gl war ia",
    "pt": "gl cbk ia",
    "it": "ia cbk sw",
    "eo": "io sw",
    "la": "ia sw",
    "su": "sw",
    "fi": "sw",
    "id": "jv sw",
    "pl": "dsb hsb",
    "cs": "dsb hsb",
    "tl": "war",
    "ceb": "war",
    "ru": "uz tg",
    "tg": "uz",
    "tr": "uz tk",
    "hu": "pam",
}
"""The languages that the model knows but takes for a larger relation, by that relation."""
NEEDED = 2
"""Words of its own that a text must have to be taken from the model's language to a near relation."""
OUTWEIGH = 2
"""How many times as many they must be as those of the model's language."""

_WORD = re.compile(r"[^\W\d_]+")
_LISTS = {
    language: frozenset(words)
    for language, *words in map(str.split, Path(__file__).with_suffix(".txt").read_text("utf-8").splitlines())
}


def _relations(language: str) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """Return, for each missed relation, the words that it alone of the two has, and those that `language` alone has."""
    own = _LISTS[language]
    return {name: (_LISTS[name] - own, own - _LISTS[name]) for name in MISSED[language].split()}


_RELATIONS = {language: _relations(language) for language in MISSED}


def nearest(language: str, lowered: str) -> str:
    """Return the language of a lower-case text by its words, out of `language` and those that the model takes for it.

    It is `language` unless another has two words there that `language` lacks, and twice as many as the other way
    round; of several, the one with the widest margin.
    """
    relations = _RELATIONS.get(language)
    if relations is None:
        return language
    words = _WORD.findall(lowered)
    best, widest = language, 0
    for name, (theirs, ours) in relations.items():
        found = _count(words, theirs)
        if found >= NEEDED:
            against = _count(words, ours)
            if found >= OUTWEIGH * against and found - against > widest:
                best, widest = name, found - against
    return best


def _count(words: Iterable[str], own: frozenset[str]) -> int:
    return sum(map(own.__contains__, words))
