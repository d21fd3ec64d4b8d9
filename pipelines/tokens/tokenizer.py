"""The `tokenizer` stage: a byte-level BPE vocabulary, learnt from a bounded sample of the corpus."""

from pathlib import Path

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import Metrics, Stage, StageConfig


class TokenizerConfig(StageConfig):
    """The size of the vocabulary and what it is learnt from."""

    model_config = ConfigDict(title="Tokenizer")
    vocab_size: int = Field(
        8_192, ge=262, le=1_000_000, description="Tokens of the vocabulary: 6 special ones, 256 bytes and the merges."
    )
    min_frequency: int = Field(2, ge=1, description="Times that a pair must stand in the sample to be merged.")
    digits: int = Field(3, ge=1, le=8, description="Digits that one token may hold at most.")
    # The trainer counts pairs in 32 bits and overflows in silence (huggingface/tokenizers#1170).
    sample_bytes: int = Field(
        100_000_000, ge=1_000, le=4_000_000_000, description="Text to learn from at most, in bytes, drawn by document."
    )
    quality_fraction: float = Field(
        0.02, gt=0, le=0.5, description="Share of the documents that is kept out of the sample, to measure on."
    )
    quality_bytes: int = Field(2_000_000, ge=1_000, description="Text to measure on at most, in bytes.")
    seed: int = Field(0, ge=0, lt=2**32, description="Which documents are drawn.")


def tokenizer(config: TokenizerConfig, *, documents: Path, out: Path) -> Metrics:
    """Write a tokenizer that transformers loads, and how well it compresses each language of the corpus.

    Encoding adds no token by itself: shards put `<|bos|>` before each document, the chat template sets the markers.
    Raises UserError naming the size that can be reached when the corpus is too small for the vocabulary.
    """
    from pipelines.tokens.bpe import build

    return build(config, documents, out)


TOKENIZER = Stage("tokenizer", version=1, run=tokenizer, libraries=("tokenizers",))
