"""Text to ids, for text that nobody vouches for: what looks like a control marker in it stays text."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datatrove.data import Document
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pipelines.artifacts.errors import UserError
from pipelines.tokens.digest import TOKENIZER_FILE, tokenizer_contract
from pipelines.tokens.twin import Twin, twin_of

BATCH_BYTES = 1 << 22
"""Text that is encoded at once: an encoding by `tokenizers` takes some 30 times its text in memory."""


def load(folder: Path) -> Tokenizer:
    """Return the tokenizer of a folder, encoding text only; raise UserError when it cannot be read."""
    path = folder / TOKENIZER_FILE
    try:
        loaded = text_only(Tokenizer.from_file(str(path)))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"tokenizer: {path} cannot be read ({reason}); build it again") from error
    tokenizer_contract(folder)
    return loaded


def text_only(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that gives `<|end|>` in a text the ids of its letters, never the control id, and cuts nothing."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.encode_special_tokens = True
    copy.no_truncation()
    copy.no_padding()
    return copy


def id_count(tokenizer: Tokenizer) -> int:
    """Return how many ids there are up to the highest: more than there are tokens where some are left out."""
    return 1 + max(tokenizer.get_vocab().values(), default=-1)


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
    """Return the ids of each text, with nothing added."""
    return [np.array(found.ids, np.uint32) for found in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


@dataclass(frozen=True)
class EncodedBatch:
    """The ids of some documents, and how many of them tiktoken encoded."""

    documents: list[Document]
    ids: list[NDArray[np.uint32]]
    by_tiktoken: int


class Encoder:
    """A tokenizer, with its tiktoken twin where that is proved to give the same ids."""

    def __init__(self, tokenizer: Tokenizer, twin: Twin | None) -> None:
        self.tokenizer, self.twin = tokenizer, twin

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Encoder":
        """Return the fastest encoder of a tokenizer that encodes text only."""
        return cls(tokenizer, twin_of(tokenizer))

    def encode(self, documents: list[Document]) -> EncodedBatch:
        """Return the documents with their ids; a text that the twin is not trusted with goes to `tokenizers`."""
        twin = self.twin
        trusted = [twin is not None and twin.trusts(document.text) for document in documents]
        left = [document.text for document, fast in zip(documents, trusted, strict=True) if not fast]
        others = iter(encode(self.tokenizer, left) if left else [])
        ids = [
            twin.encode(document.text) if twin and fast else next(others)
            for document, fast in zip(documents, trusted, strict=True)
        ]
        return EncodedBatch(documents, ids, sum(trusted))

    def encode_all(self, documents: Iterable[Document], workers: int) -> Iterator[EncodedBatch]:
        """Yield the documents in their order, encoded by `workers` threads; at most `workers` + 1 batches are held."""
        waiting: deque[Future[EncodedBatch]] = deque()
        with ThreadPoolExecutor(workers) as pool:
            for batch in batches(documents):
                waiting.append(pool.submit(self.encode, batch))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def utf8_size(text: str) -> int:
    """Return the bytes of the text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Yield the documents in lists of at most 4 MiB of text, or of a single longer one."""
    batch: list[Document] = []
    held = 0
    for document in documents:
        size = utf8_size(document.text)
        if batch and held + size > BATCH_BYTES:
            yield batch
            batch, held = [], 0
        batch.append(document)
        held += size
    if batch:
        yield batch
