"""Words and shingles of many texts at once, from their UTF-8 to sorted sets of 64-bit hashes, in machine code.

A text's shingles are those of `ngrams.shingles`, bit for bit; a property test holds both to it.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from pipelines.corpus.compiled import compiled
from pipelines.corpus.duplicates.codepoints import (
    ALONE,
    BLANK,
    CODE,
    EXPANSION,
    NEIGHBOURS,
    RECOMPOSED,
    WORD,
    Table,
    folded_table,
    raw_table,
)
from pipelines.corpus.ngrams import MULTIPLIER, SEED, SHIFT, WORD_MULTIPLIER, Hashes, normalised

Bytes = NDArray[np.uint8]
Offsets = NDArray[np.int64]

PIECE_BYTES = 4 << 20
"""Text handled at once, unless a single document has more: scratch memory is some ten times that."""
_WIDEST = 4
"""Most words a byte of text can yield, by far: U+FDFA has four in three bytes."""


@dataclass(frozen=True)
class Shingled:
    """What is known of a run of documents after one pass over their texts."""

    digests: list[bytes]
    """The 128-bit digest of each text in normal form (`ngrams.normalised`)."""
    lengths: Offsets
    """Code points of each text."""
    sizes: Offsets
    """Shingles of each text."""
    shingles: Hashes
    """The sets one after the other, each sorted."""


@compiled
def _scan(
    data: Bytes, start: int, end: int, table: NDArray[np.uint32], expansions: NDArray[np.uint32], ends: Offsets,
    words: Hashes, plain: Bytes, plain_at: int,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Find the words of `data[start:end]`, and copy it to `plain` with every run of blanks as one.

    Returns the number of words, of bytes copied and of code points, and all flags met.
    """
    seed, multiplier, last = np.uint64(SEED), np.uint64(WORD_MULTIPLIER), np.uint64(SHIFT)
    finish = np.uint64(MULTIPLIER)
    current = seed
    open_word = False
    count = chars = flags = 0
    wrote = plain_at
    gap = False
    place = start
    one = np.empty(1, np.uint32)
    while place < end:
        lead = data[place]
        if lead < 0x80:  # the usual way, which needs no more than this
            place += 1
            chars += 1
            plainest = table[lead]
            if plainest & BLANK:
                gap = wrote > plain_at
            else:
                if gap:
                    plain[wrote] = 32
                    wrote += 1
                    gap = False
                plain[wrote] = lead
                wrote += 1
            if plainest & WORD:
                current = (current ^ np.uint64(plainest & CODE)) * multiplier
                open_word = True
            elif open_word:
                words[count] = (current ^ (current >> last)) * finish
                count += 1
                current, open_word = seed, False
            continue
        if lead < 0xE0:
            code, width = int(lead & 0x1F), 2
        elif lead < 0xF0:
            code, width = int(lead & 0x0F), 3
        else:
            code, width = int(lead & 0x07), 4
        if place + width > end:
            break
        for tail in range(1, width):
            code = (code << 6) | int(data[place + tail] & 0x3F)
        if code > 0x10FFFF:
            code = 0xFFFD
        chars += 1
        entry = int(table[code])
        flags |= entry
        if entry & BLANK:
            gap = wrote > plain_at
        else:
            if gap:
                plain[wrote] = 32
                wrote += 1
                gap = False
            for part in range(width):
                plain[wrote + part] = data[place + part]
            wrote += width
        place += width
        if entry & EXPANSION:
            number = entry & CODE
            first = ends[number - 1] if number else 0
            run = expansions[first : ends[number]]
        else:
            one[0] = np.uint32(entry)
            run = one
        for at in range(len(run)):
            entry = int(run[at])
            if entry & WORD:
                current = (current ^ np.uint64(entry & CODE)) * multiplier
                open_word = True
                continue
            if open_word:
                words[count] = (current ^ (current >> last)) * finish
                count += 1
                current, open_word = seed, False
            if entry & ALONE:
                current = (current ^ np.uint64(entry & CODE)) * multiplier
                words[count] = (current ^ (current >> last)) * finish
                count += 1
                current = seed
    if open_word:
        words[count] = (current ^ (current >> last)) * finish
        count += 1
    return count, wrote - plain_at, chars, flags


@compiled
def _sorted(hashes: Hashes) -> Hashes:
    """Return the hashes in order: dealt by their high bits, then put right among neighbours, in linear time."""
    bits = 1
    while (1 << bits) < len(hashes):
        bits += 1
    shift = np.uint64(64 - bits)
    ends = np.zeros((1 << bits) + 1, np.int64)
    for number in hashes:
        ends[int(number >> shift) + 1] += 1
    for slot in range(1 << bits):
        ends[slot + 1] += ends[slot]
    out = np.empty_like(hashes)
    for number in hashes:
        slot = int(number >> shift)
        out[ends[slot]] = number
        ends[slot] += 1
    for place in range(1, len(out)):
        number = out[place]
        at = place
        while at > 0 and out[at - 1] > number:
            out[at] = out[at - 1]
            at -= 1
        out[at] = number
    return out


@compiled
def _shingle(words: Hashes, count: int, n: int, out: Hashes, at: int) -> int:
    """Write the sorted set of shingles of the first `count` words to `out[at:]` and return its size."""
    multiplier = np.uint64(MULTIPLIER)
    if count == 0:
        return 0
    n = min(n, count)
    places = count - n + 1
    for place in range(places):
        total = np.uint64(0)
        for offset in range(n):
            total = total * multiplier + words[place + offset]
        out[at + place] = total
    found = _sorted(out[at : at + places])
    size = 0
    for place in range(places):
        if place == 0 or found[place] != found[place - 1]:
            out[at + size] = found[place]
            size += 1
    return size


@compiled
def _shingle_texts(
    data: Bytes, offsets: Offsets, table: NDArray[np.uint32], expansions: NDArray[np.uint32], ends: Offsets, n: int,
    words: Hashes, plain: Bytes, plain_ends: Offsets, lengths: Offsets, flags: Offsets, sizes: Offsets, out: Hashes,
) -> int:  # fmt: skip
    """Shingle every text that `table` can read alone; return how many hashes were written."""
    wrote = used = 0
    for text in range(len(offsets) - 1):
        count, copied, lengths[text], flags[text] = _scan(
            data, offsets[text], offsets[text + 1], table, expansions, ends, words, plain, used
        )
        used += copied
        plain_ends[text] = used
        if not flags[text] & NEIGHBOURS:
            sizes[text] = _shingle(words, count, n, out, wrote)
            wrote += sizes[text]
    return wrote


def shingle_texts(data: Bytes, offsets: Offsets, n: int) -> Shingled:
    """Return the shingles of `n` words, digests and lengths of the texts that lie in `data` one after the other."""
    offsets = offsets.astype(np.int64)
    pieces = [_shingle_piece(data, offsets[start : end + 1], n) for start, end in _pieces(offsets)]
    return Shingled(
        [digest for piece in pieces for digest in piece.digests],
        np.concatenate([np.empty(0, np.int64), *(piece.lengths for piece in pieces)]),
        np.concatenate([np.empty(0, np.int64), *(piece.sizes for piece in pieces)]),
        np.concatenate([np.empty(0, np.uint64), *(piece.shingles for piece in pieces)]),
    )


def _pieces(offsets: Offsets) -> Iterator[tuple[int, int]]:
    """Yield runs of texts of at most `PIECE_BYTES` together."""
    start = 0
    while start < len(offsets) - 1:
        end = int(np.searchsorted(offsets, offsets[start] + PIECE_BYTES, side="right")) - 1
        end = min(max(end, start + 1), len(offsets) - 1)
        yield start, end
        start = end


def _shingle_piece(data: Bytes, offsets: Offsets, n: int) -> Shingled:
    count, total = len(offsets) - 1, int(offsets[-1] - offsets[0])
    longest = int(np.diff(offsets).max())
    plain = np.empty(total + 1, np.uint8)
    plain_ends, lengths, flags, sizes = (np.zeros(count, np.int64) for _ in range(4))
    # Two words take three bytes or more, but for the few code points that fold to several words.
    words, out = np.empty(_WIDEST * longest + 1, np.uint64), np.empty(_WIDEST * total + 1, np.uint64)
    wrote = _shingle_texts(data, offsets, *raw_table(), n, words, plain, plain_ends, lengths, flags, sizes, out)
    digests, start = [], 0
    view = plain.data
    for text, end in enumerate(plain_ends.tolist()):
        recomposed = flags[text] & RECOMPOSED
        form = (
            normalised(_text(data, offsets, text)).encode("utf-8", "surrogatepass") if recomposed else view[start:end]
        )
        digests.append(xxhash.xxh3_128_digest(form))
        start = end
    runs, done = [], 0
    starts = np.cumsum(sizes) - sizes
    for text in np.flatnonzero(flags & NEIGHBOURS).tolist():
        found = _folded(_text(data, offsets, text), n)
        runs += [out[done : starts[text]], found]
        done, sizes[text] = starts[text], len(found)
    return Shingled(digests, lengths, sizes, np.concatenate([*runs, out[done:wrote]]))


def _text(data: Bytes, offsets: Offsets, text: int) -> str:
    return data[offsets[text] : offsets[text + 1]].tobytes().decode("utf-8", "surrogatepass")


def _folded(text: str, n: int) -> Hashes:
    """Return the shingles of a text that Python has to normalise."""
    folded = unicodedata.normalize("NFKC", text).casefold().encode("utf-8", "surrogatepass")
    data = np.frombuffer(folded, np.uint8)
    words = np.empty(len(data) + 1, np.uint64)
    table: Table = folded_table()
    count, _, _, _ = _scan(data, 0, len(data), *table, words, np.empty(len(data) + 1, np.uint8), 0)
    out = np.empty(count, np.uint64)
    return out[: _shingle(words, count, n, out, 0)]
