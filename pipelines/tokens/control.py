"""The control of an encoding: some of the corpus's own documents encoded by both engines."""

import heapq
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pipelines.tokens.encoding import encode, utf8_size

CONTROL_BYTES = 1 << 20
"""Text that is encoded twice; held in memory until the corpus is through, with one document more."""


class Control:
    """The documents of lowest rank that reach `CONTROL_BYTES` of text, whatever the order they are offered in."""

    def __init__(self) -> None:
        self._held: list[tuple[int, int, str, NDArray[np.uint32]]] = []
        self.bytes = self._offered = 0

    def __len__(self) -> int:
        return len(self._held)

    def offer(self, rank: int, text: str, ids: NDArray[np.uint32]) -> None:
        """Hold a document while it is among those of lowest rank."""
        if self.bytes >= CONTROL_BYTES and rank >= -self._held[0][0]:
            return
        self._offered += 1
        heapq.heappush(self._held, (-rank, self._offered, text, ids))
        self.bytes += utf8_size(text)
        while self.bytes - utf8_size(self._held[0][2]) >= CONTROL_BYTES:
            self.bytes -= utf8_size(heapq.heappop(self._held)[2])

    def differing(self, tokenizer: Tokenizer) -> Iterator[str]:
        """Yield the texts whose ids are not those of the tokenizer."""
        for *_, text, ids in self._held:
            if not np.array_equal(encode(tokenizer, [text])[0], ids):
                yield text
