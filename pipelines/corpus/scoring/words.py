"""A native splitter of words and sentences that stands in for spaCy's English one, at linear cost."""

from functools import cache

import numpy as np
import numpy.typing as npt

from pipelines.corpus.compiled import compiled
from pipelines.corpus.scoring.addresses import is_address
from pipelines.corpus.scoring.characters import (
    LETTER,
    PUNCTUATION,
    SENTENCE_END,
    SPACE,
    Points,
    Table,
    character_table,
    code_points,
)
from pipelines.corpus.scoring.english import known_words, units
from pipelines.corpus.scoring.splitting import (
    Keys,
    Places,
    bits,
    infix_length,
    known_slot,
    prefix_length,
    suffix_length,
)

Pieces = npt.NDArray[np.uint8]
"""The lengths of up to three pieces that a known word is split into, by slot; 0 where there is none."""


@compiled
def word_places(
    points: Points, table: Table, known: Keys, pieces: Pieces, measures: Keys, starts: Places, ends: Places
) -> int:
    """Fill `starts` and `ends`, as long as `points`, with the places of the words and return how many there are."""
    size = len(points)
    count = 0
    place = 0
    while place < size:
        while place < size and bits(points[place], table) & SPACE:
            place += 1
        start = place
        plain = True
        while place < size:
            held = bits(points[place], table)
            if held & SPACE:
                break
            plain = plain and held & LETTER != 0
            place += 1
        if start == place:
            break
        if plain:
            count = _whole(points, start, place, known, pieces, starts, ends, count)
        else:
            count = _split(points, table, start, place, known, pieces, measures, starts, ends, count)
    return count


@compiled
def _whole(
    points: Points, start: int, end: int, known: Keys, pieces: Pieces, starts: Places, ends: Places, count: int
) -> int:
    """Append the stretch as one word, or as the pieces of a known word, and return the new number of words."""
    slot = known_slot(points, start, end, known)
    if slot >= 0:
        for number in range(3):
            length = pieces[slot, number]
            if length == 0 or start + length >= end:
                break
            starts[count], ends[count] = start, start + length
            start += length
            count += 1
    starts[count], ends[count] = start, end
    return count + 1


@compiled
def _split(
    points: Points,
    table: Table,
    start: int,
    end: int,
    known: Keys,
    pieces: Pieces,
    measures: Keys,
    starts: Places,
    ends: Places,
    count: int,
) -> int:
    """Append the words of a stretch without white space and return the new number of words."""
    waiting = len(starts)  # the marks that came off the end wait at the end of the buffers
    while start < end and known_slot(points, start, end, known) < 0:
        prefix = prefix_length(points, table, start, end)
        suffix = suffix_length(points, table, start + prefix, end, measures)
        if not prefix and not suffix:
            break
        rest_known = prefix > 0 and known_slot(points, start + prefix, end, known) >= 0
        if suffix and not rest_known:
            if known_slot(points, start, end - suffix, known) >= 0:
                prefix = 0
            waiting -= 1
            starts[waiting], ends[waiting] = end - suffix, end
            end -= suffix
        if prefix:
            starts[count], ends[count] = start, start + prefix
            count += 1
            start += prefix
    if start < end:
        if known_slot(points, start, end, known) >= 0 or is_address(points, table, start, end):
            count = _whole(points, start, end, known, pieces, starts, ends, count)
        else:
            count = _inside(points, table, start, end, starts, ends, count)
    while waiting < len(starts):
        starts[count], ends[count] = starts[waiting], ends[waiting]
        count += 1
        waiting += 1
    return count


@compiled
def _inside(points: Points, table: Table, start: int, end: int, starts: Places, ends: Places, count: int) -> int:
    """Append the words between the marks inside a stretch, and the marks, and return the new number of words."""
    first = word = place = start
    while place < end:
        length = infix_length(points, table, first, place, end)
        if length == 0:
            place += 1
            continue
        if place > word:
            starts[count], ends[count] = word, place
            starts[count + 1], ends[count + 1] = place, place + length
            count += 2
            word = place + length
        place += length
    if word < end:
        starts[count], ends[count] = word, end
        count += 1
    return count


@compiled
def sentences(points: Points, table: Table, starts: Places, ends: Places, count: int) -> int:
    """Return the number of sentences in lines whose words are given; each line has one at least.

    A sentence ends before the first word after an end mark that is not punctuation, or at white space that is more
    than one space.
    """
    found = 0
    after_mark = True
    for word in range(count):
        start, end = starts[word], ends[word]
        new_line = word == 0
        wide = False
        if word > 0:
            gap = start - ends[word - 1]
            wide = gap > 1 or (gap == 1 and points[start - 1] != 32)
            for place in range(ends[word - 1], start):
                new_line = new_line or points[place] == 10
        mark = end - start == 1 and bits(points[start], table) & SENTENCE_END != 0
        if new_line:
            found += 1
            after_mark = mark
            continue
        if after_mark and wide:
            found += 1
            after_mark = False
        if mark:
            after_mark = True
        elif after_mark:
            punctuation = True
            for place in range(start, end):
                punctuation = punctuation and bits(points[place], table) & PUNCTUATION != 0
            if not punctuation:
                found += 1
                after_mark = False
    return found


class Splitter:
    """The tables of the splitter, and room for the words of one text at a time."""

    def __init__(self) -> None:
        self.table = character_table()
        self.known, self.pieces = known_words()
        self.units = units()
        self._starts = self._ends = np.empty(0, np.int32)

    def places(self, points: Points) -> tuple[Places, Places]:
        """Return where each word starts and ends, in code points; the arrays are overwritten by the next call."""
        if len(points) > len(self._starts):
            self._starts, self._ends = (np.empty(2 * len(points), np.int32) for _ in range(2))
        starts, ends = self._starts[: len(points)], self._ends[: len(points)]
        count = word_places(points, self.table, self.known, self.pieces, self.units, starts, ends)
        return starts[:count], ends[:count]


@cache
def splitter() -> Splitter:
    """Return the splitter of this process."""
    return Splitter()


def count_sentences(lines: str) -> int:
    """Return the number of sentences in lines parted by line feeds; a line that is not blank holds at least one."""
    points = code_points(lines)
    starts, ends = splitter().places(points)
    return sentences(points, splitter().table, starts, ends, len(starts))
