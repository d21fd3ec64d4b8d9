"""How well a tokenizer compresses text that it has not learnt from, by language, and whether it loses nothing."""

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

from datatrove.data import Document
from tokenizers import Tokenizer

from pipelines.artifacts.errors import StageFailed
from pipelines.artifacts.progress import track
from pipelines.corpus.auditing.counting import domain_of
from pipelines.tokens.encoding import encode, text_only
from pipelines.tokens.sample import Sample
from pipelines.tokens.special import SPECIAL_TOKENS

MOST_SOURCES = 50
"""Rows of the table by source; the smaller ones beyond are one row, `(others)`."""

UNDETERMINED = "und"
"""ISO 639's code for a document whose language no stage has told."""


@dataclass
class Share:
    """What a group of documents came to."""

    documents: int = 0
    bytes: int = 0
    tokens: int = 0

    def count(self, size: int, tokens: int) -> None:
        """Add a document."""
        self.documents += 1
        self.bytes += size
        self.tokens += tokens

    @property
    def bytes_per_token(self) -> float:
        """Return the UTF-8 bytes that a token stands for on average; 0 without tokens."""
        return round(self.bytes / self.tokens, 4) if self.tokens else 0.0

    def as_json(self) -> dict[str, float]:
        """Return the counts and their ratio."""
        return {
            "documents": self.documents,
            "bytes": self.bytes,
            "tokens": self.tokens,
            "bytes_per_token": self.bytes_per_token,
        }


@dataclass
class Quality:
    """The figures of `quality.json`."""

    vocab_size: int
    total: Share = field(default_factory=Share)
    languages: dict[str, Share] = field(default_factory=lambda: defaultdict(Share))
    sources: dict[str, Share] = field(default_factory=lambda: defaultdict(Share))
    specials: int = len(SPECIAL_TOKENS)
    probed: int = 0
    used: set[int] = field(default_factory=set)

    @property
    def used_share(self) -> float:
        """Return the share of the ordinary tokens that the measured text uses."""
        return round(len(self.used) / (self.vocab_size - self.specials), 4)

    def as_json(self) -> dict[str, Any]:
        """Return what the file holds."""
        return {
            "vocab_size": self.vocab_size,
            "total": self.total.as_json(),
            "languages": {name: share.as_json() for name, share in sorted(self.languages.items())},
            "sources": {name: share.as_json() for name, share in self._largest_sources()},
            "used_tokens": len(self.used),
            "used_share": self.used_share,
            "round_trip": {"documents": self.total.documents, "exact": self.total.documents, "probe": self.probed},
        }

    def _largest_sources(self) -> list[tuple[str, Share]]:
        """Return the sources by name, those beyond the largest `MOST_SOURCES` added up."""
        ordered = sorted(self.sources.items(), key=lambda item: (-item[1].bytes, item[0]))
        others = Share()
        for _, share in ordered[MOST_SOURCES:]:
            others.documents += share.documents
            others.bytes += share.bytes
            others.tokens += share.tokens
        kept = sorted(ordered[:MOST_SOURCES])
        return [*kept, ("(others)", others)] if others.documents else kept


def measure(learnt: Tokenizer, sample: Sample) -> Quality:
    """Return the figures over the documents kept out of the sample; raise StageFailed when a text is not restored."""
    specials = sum(token.special for token in learnt.get_added_tokens_decoder().values())
    quality = Quality(learnt.get_vocab_size(), specials=specials)
    tokenizer = text_only(learnt)
    text = probe()
    if tokenizer.decode(encode(tokenizer, [text])[0].tolist(), skip_special_tokens=False) != text:
        raise StageFailed("tokenizer: the probe of all kinds of characters is not restored from its tokens")
    quality.probed = len(text)
    for document in track(sample.unseen(), "measuring the tokenizer", unit="documents"):
        _count(quality, tokenizer, document)
    return quality


def _count(quality: Quality, tokenizer: Tokenizer, document: Document) -> None:
    ids = encode(tokenizer, [document.text])[0]
    if tokenizer.decode(ids.tolist(), skip_special_tokens=False) != document.text:
        raise StageFailed(f"tokenizer: document {document.id} is not restored from its tokens")
    size = len(document.text.encode())
    quality.total.count(size, len(ids))
    quality.languages[document.metadata.get("language") or UNDETERMINED].count(size, len(ids))
    quality.sources[source_of(document)].count(size, len(ids))
    quality.used.update(ids.tolist())


def source_of(document: Document) -> str:
    """Return the host that the document is from, else the name of the file that it lay in."""
    host = domain_of(document.metadata.get("url") or "")
    return host or PurePosixPath(document.metadata.get("source_uri") or "").name or "(none)"


def probe() -> str:
    """Return a text of every character of one or two bytes, some of every other plane, marks and long runs."""
    points = chain(range(0x800), range(0x800, 0xD800, 61), range(0xE000, 0x110000, 997))
    return "".join(map(chr, points)) + "e" + "\u0301" * 300 + " " * 300 + "\r\n" * 200 + "a" * 300 + "=" * 300
