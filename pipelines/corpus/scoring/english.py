"""English words that the splitter knows: contractions with their pieces, abbreviations with a full stop, units."""
# ruff: noqa: RUF001 - typographic characters are meant, and lists read as text

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pipelines.corpus.scoring.characters import code_points
from pipelines.corpus.scoring.splitting import LONGEST_KNOWN, Keys, text_key

SLOTS = 8192
MARKS = ("'", "’")

_PERSONS = "i you he she it we they".split()
_QUESTIONS = "who what when where why how there that this these those".split()
_AMBIGUOUS = frozenset("Ill ill Its its Hell hell Shell shell Shed shed were Were Well well Whore whore".split())
"""Words that are no contraction where the apostrophe is missing."""

_WITH_NOT = "ca could do does did had may might must need ought sha should wo would".split()
_WITH_NOT_ALONE = "ai are is was were have has dare".split()
_WITH_HAVE = "could might must should would".split()
_CUT_SHORT = "doin goin nothin nuthin ol somethin havin lovin".split()
_ABBREVIATED = (
    "Adm. Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. i.e. I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. "
    "Mr. Mrs. Ms. p.m. a.m. Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s. Jan. Feb. Mar. Apr. Jun. Jul. Aug. Sep. Sept. "
    "Oct. Nov. Dec. Ala. Ariz. Ark. Calif. Colo. Conn. Del. Fla. Ga. Ia. Id. Ill. Ind. Kan. Kans. Ky. La. Mass. "
    "Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Okla. Ore. Pa. S.C. Tenn. Va. Wash. Wis. "
    "and/or o.k. O.K. C++ o'clock ma'am Ma'am o’clock ma’am Ma’am 'em 'nuff 'Cause 'cause ’em ’Cause ’cause "
    "w/o '' 's 'S ’s ’S"
).split()
_UNITS = (
    "km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s km/h kmh mph hPa Pa "
    "mbar mb MB kb KB gb GB tb TB T G M K %"
).split()


def _cases(word: str) -> tuple[str, str]:
    return word, word.title()


def _contractions() -> Iterator[tuple[str, ...]]:
    """Yield the pieces of each contraction, with either apostrophe and without one."""
    for marks in (("'",), ("’",), ("",)):
        (mark,) = marks
        for person in _PERSONS:
            for word in _cases(person):
                endings = ["ll", "d"]
                endings += ["ve"] if person in ("i", "you", "we", "they") else []
                endings += ["re"] if person in ("you", "we", "they") else []
                endings += ["s"] if person in ("he", "she", "it") else []
                endings += ["m"] if person == "i" else []
                yield from ((word, mark + ending) for ending in endings)
                yield from ((word, mark + ending, mark + "ve") for ending in ("ll", "d"))
        for question in _QUESTIONS:
            for word in _cases(question):
                yield from ((word, mark + ending) for ending in ("s", "ll", "d", "re", "ve"))
                yield from ((word, mark + ending, mark + "ve") for ending in ("ll", "d"))
        for verb in _WITH_NOT + _WITH_NOT_ALONE:
            for word in _cases(verb):
                yield word, f"n{mark}t"
                if verb in _WITH_NOT:
                    yield word, f"n{mark}t", f"{mark}ve"
        for verb in _WITH_HAVE:
            yield from ((word, f"{mark}ve") for word in _cases(verb))
        yield from ((word, f"{mark}s") for word in _cases("let") if mark)
    for pieces in (("can", "not"), ("gon", "na"), ("got", "ta")):
        yield pieces
        yield (pieces[0].title(), *pieces[1:])


def _words() -> Iterator[tuple[str, ...]]:
    """Yield the pieces of every known word."""
    yield from (pieces for pieces in _contractions() if "".join(pieces) not in _AMBIGUOUS)
    for hour in range(1, 13):
        yield from ((str(hour), half) for half in ("am", "pm", "a.m.", "p.m.", "a.m", "p.m"))
    yield from ((word,) for word in _ABBREVIATED)
    yield from ((f"{chr(letter)}.",) for letter in range(ord("a"), ord("z") + 1))
    for short in _CUT_SHORT:
        yield from ((word + mark,) for word in _cases(short) for mark in MARKS)


def known_words() -> tuple[Keys, npt.NDArray[np.uint8]]:
    """Return the hash table of known words and, by slot, the lengths of the pieces before the last."""
    keys, pieces = np.zeros(SLOTS, np.uint64), np.zeros((SLOTS, 3), np.uint8)
    for word in _words():
        text = "".join(word)
        if len(text) <= LONGEST_KNOWN:
            slot = _put(keys, text)
            pieces[slot] = 0
            pieces[slot, : len(word) - 1] = [len(piece) for piece in word[:-1]]
    return keys, pieces


def units() -> Keys:
    """Return the hash table of units of measure, which come off a number."""
    keys = np.zeros(256, np.uint64)
    for unit in _UNITS:
        _put(keys, unit)
    return keys


def _put(keys: Keys, text: str) -> int:
    points = code_points(text)
    key = text_key(points, 0, len(points))
    slot = int((int(key) ^ (int(key) >> 32)) & (len(keys) - 1))
    while keys[slot] and keys[slot] != key:
        slot = (slot + 1) % len(keys)
    keys[slot] = key
    return slot
