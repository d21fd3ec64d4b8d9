"""From token ids to text as it grows: whole UTF-8 characters only, cut where a stop string begins."""

import codecs
from collections.abc import Mapping, Sequence
from functools import cache


@cache
def byte_of_character() -> Mapping[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + index): byte for index, byte in enumerate(others)}


def token_bytes(token: str) -> bytes:
    """Return the bytes of a byte-level token; one with a character outside the table stands for itself."""
    table = byte_of_character()
    if all(character in table for character in token):
        return bytes(table[character] for character in token)
    return token.encode()


class TextStream:
    """The text of one completion, given out as soon as no later token can change it.

    A character whose bytes have not all come, and a tail that may be the beginning of a stop string, are held back.
    """

    def __init__(self, vocabulary: Sequence[bytes], stops: Sequence[str] = ()) -> None:
        self.vocabulary, self.stops = vocabulary, stops
        self.stopped = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def push(self, token: int) -> str:
        """Take the next token and return the text that is settled by it; `stopped` says that a stop string came."""
        self._held += self._decoder.decode(self.vocabulary[token])
        found = [place for place in map(self._held.find, self.stops) if place >= 0]
        if found:
            self.stopped = True
            return self._release(min(found))
        return self._release(len(self._held) - self._doubtful())

    def finish(self) -> str:
        """Return what was held back; the bytes of half a character are dropped."""
        return "" if self.stopped else self._release(len(self._held))

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text

    def _doubtful(self) -> int:
        """Return the length of the longest tail that a stop string begins with."""
        longest = max((len(stop) for stop in self.stops), default=1) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self.stops):
                return size
        return 0
