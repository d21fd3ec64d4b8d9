"""From token ids to text as it grows: whole UTF-8 characters only, cut where a stop string begins."""

import codecs
from collections.abc import Sequence


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
