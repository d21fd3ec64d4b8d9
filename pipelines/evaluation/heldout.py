"""Documents read back from token shards: their text, byte for byte, and a fair draw of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerFast

from pipelines.tokens.byte_level import token_bytes
from pipelines.tokens.loader import TokenShards


@dataclass(frozen=True)
class Span:
    """Where a document's ids lie in a split, its BOS included."""

    document_id: str
    start: int
    length: int


class SplitText:
    """The documents of one split as text.

    A token's bytes come from the tokenizer's vocabulary, so that what was sharded comes back byte for byte.
    """

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
        self.shards = TokenShards(folder)
        self.spans = [Span(**row) for row in pq.read_table(folder / "spans.parquet").to_pylist()]
        self._bytes = vocabulary_bytes(tokenizer)

    def text(self, span: Span) -> bytes:
        """Return the document's UTF-8 text."""
        ids = self.shards.window(span.start, span.length).tolist()
        return b"".join([self._bytes[token] for token in ids])

    def texts(self, max_bytes: int) -> Iterator[bytes]:
        """Yield documents in the split's order until `max_bytes` are out; the last one is cut there."""
        for span in self.spans:
            if max_bytes <= 0:
                return
            text = self.text(span)[:max_bytes]
            max_bytes -= len(text)
            yield text

    def first(self, count: int) -> list[Span]:
        """Return at most `count` documents, the first in the order of their ids, whatever their length."""
        held = [span for span in self.spans if span.length > 1]
        return sorted(held, key=lambda span: (span.document_id, span.start))[:count]

    def draw(self, max_tokens: int) -> list[Span]:
        """Return whole documents of at most `max_tokens` ids in all, at least one.

        They are taken in the order of their ids, which are hashes, and one that does not fit is passed over.
        """
        drawn: list[Span] = []
        left = max_tokens
        for span in sorted(self.spans, key=lambda span: (span.document_id, span.start)):
            if span.length > 1 and (span.length <= left or not drawn):
                drawn.append(span)
                left -= span.length
        return drawn


def vocabulary_bytes(tokenizer: PreTrainedTokenizerFast) -> list[bytes]:
    """Return the bytes of each id of a byte-level tokenizer; a special token has none."""
    special = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    found = [b""] * len(tokenizer)
    for token, place in tokenizer.get_vocab().items():
        if place not in special:
            found[place] = token_bytes(token)
    return found
