"""Text to ids, for text that nobody vouches for: what looks like a control marker in it stays text."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from datatrove.data import Document
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pipelines.artifacts.errors import UserError
from pipelines.tokens.digest import TOKENIZER_FILE

BATCH_BYTES = 1 << 22
"""Text that is encoded at once: an encoding in memory takes some 30 times its text."""


def load(folder: Path) -> Tokenizer:
    """Return the tokenizer of a folder, encoding text only; raise UserError when it cannot be read."""
    path = folder / TOKENIZER_FILE
    try:
        return text_only(Tokenizer.from_file(str(path)))
    except Exception as error:
        raise UserError(f"tokenizer: {path} cannot be read ({error}); build it again") from error


def text_only(tokenizer: Tokenizer) -> Tokenizer:
    """Return a copy that gives `<|end|>` in a text the ids of its letters, never the control id."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.encode_special_tokens = True
    return copy


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
    """Return the ids of each text, with nothing added."""
    return [np.array(found.ids, np.uint32) for found in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Yield the documents in lists of at most 4 MiB of text, or of a single longer one."""
    batch: list[Document] = []
    held = 0
    for document in documents:
        size = len(document.text.encode())
        if batch and held + size > BATCH_BYTES:
            yield batch
            batch, held = [], 0
        batch.append(document)
        held += size
    if batch:
        yield batch
