"""English novels as windows of token ids, for benchmarks that train."""

import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from support.near_duplicates import write
from tokenizers import Tokenizer

from pipelines.pretraining.heldout import token_sizes
from pipelines.tokens.tokenizer import TokenizerConfig, tokenizer

ARCHIVE = Path(__file__).resolve().parents[3] / "shared" / "data" / "prose" / "english-novels.tar.xz"
VOCABULARY = 8192
DOCUMENT_CHARACTERS = 20_000
CHARACTERS = 4_000_000
"""Some million tokens, which is more than is trained on."""
HELDOUT_CHARACTERS = 400_000


@dataclass(frozen=True)
class Windows:
    """Files of ids, `[windows, length + 1]`, and the bytes of text that the held-out targets stand for."""

    train: Path
    heldout: Path
    heldout_bytes: int


def novels() -> tuple[list[str], list[str]]:
    """Return the beginning of the novels in pieces, and pieces of what follows them."""
    text = ""
    with tarfile.open(ARCHIVE) as archive:
        for member in sorted(archive.getmembers(), key=lambda item: item.name):
            file = archive.extractfile(member) if member.isfile() and member.name.endswith(".txt") else None
            text += file.read().decode("utf-8", "replace") if file else ""
            if len(text) > CHARACTERS + HELDOUT_CHARACTERS:
                break
    return _pieces(text[:CHARACTERS]), _pieces(text[CHARACTERS : CHARACTERS + HELDOUT_CHARACTERS])


def write_windows(folder: Path, length: int) -> Windows:
    """Train a tokenizer on the training text with our stage, and write the ids of both texts in windows."""
    train, heldout = novels()
    write(train, folder / "documents")
    tokenizer(TokenizerConfig(vocab_size=VOCABULARY), documents=folder / "documents", out=folder / "out")
    found = next((folder / "out").rglob("tokenizer.json"))
    encoder = Tokenizer.from_file(str(found))
    windows = _windows(encoder, train, length)
    np.save(folder / "train.npy", windows[np.random.default_rng(0).permutation(len(windows))])
    kept = _windows(encoder, heldout, length)
    np.save(folder / "heldout.npy", kept)
    sizes = token_sizes(found.parent).numpy()
    return Windows(folder / "train.npy", folder / "heldout.npy", int(sizes[kept[:, 1:]].sum()))


def _pieces(text: str) -> list[str]:
    return [text[at : at + DOCUMENT_CHARACTERS] for at in range(0, len(text), DOCUMENT_CHARACTERS)]


def _windows(encoder: Tokenizer, texts: list[str], length: int) -> NDArray[np.uint16]:
    ids = np.concatenate([np.array([0, *row.ids], np.uint16) for row in encoder.encode_batch(texts)])
    windows: NDArray[np.uint16] = np.lib.stride_tricks.sliding_window_view(ids, length + 1)[::length]
    return windows
