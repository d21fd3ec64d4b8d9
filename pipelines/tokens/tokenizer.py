"""The `tokenizer` stage: a byte-level vocabulary, learnt from a bounded sample of the corpus."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from pipelines.artifacts.stage import Metrics, Stage, StageConfig
from pipelines.tokens.special import MARKER_PATTERN, SPECIAL_TOKENS

BYTES = 256
MAX_UNIGRAM_SAMPLE = 500_000_000
"""Bytes: the trainer holds a suffix array over the sample's distinct pieces, several times their size."""

Whitespace = Literal["runs", "single"]


class TokenizerConfig(StageConfig):
    """The size of the vocabulary and what it is learnt from."""

    model_config = ConfigDict(title="Tokenizer")
    algorithm: Literal["bpe", "wordpiece", "unigram"] = Field(
        "bpe",
        description="Merges of the commonest pairs (bpe), the same tokens taken longest first (wordpiece), or the "
        "likeliest cut by token probabilities (unigram). All stand on bytes.",
    )
    vocab_size: int = Field(
        8_192,
        ge=262,
        le=1_000_000,
        description="Tokens of the vocabulary: the special ones, 256 bytes, what is learnt.",
    )
    special_tokens: tuple[str, ...] = Field(
        (), max_length=1_000, description="Control tokens of your own, as <|name|>, with the ids from 6 on."
    )
    min_frequency: int = Field(
        2, ge=1, description="Times that a pair must stand in the sample to be merged (bpe, wordpiece)."
    )
    digits: int = Field(3, ge=1, le=8, description="Digits that one token may hold at most.")
    whitespace: Whitespace = Field(
        "runs",
        description="Blanks that one token may hold: a run of them, as in indented code, or a single one.",
    )
    # The trainer counts pairs in 32 bits and overflows in silence (huggingface/tokenizers#1170).
    sample_bytes: int = Field(
        100_000_000, ge=1_000, le=4_000_000_000, description="Text to learn from at most, in bytes, drawn by document."
    )
    quality_fraction: float = Field(
        0.02, gt=0, le=0.5, description="Share of the documents that is kept out of the sample, to measure on."
    )
    quality_bytes: int = Field(2_000_000, ge=1_000, description="Text to measure on at most, in bytes.")
    seed: int = Field(0, ge=0, lt=2**32, description="Which documents are drawn.")

    @field_validator("special_tokens")
    @classmethod
    def _special_tokens_are_apart(cls, tokens: tuple[str, ...]) -> tuple[str, ...]:
        for token in tokens:
            if not re.fullmatch(MARKER_PATTERN, token):
                raise ValueError(f"{token!r} is not of the form <|name|>, in small letters; rename it")
            if token in SPECIAL_TOKENS:
                raise ValueError(f"{token} is in every vocabulary already; leave it out")
            if tokens.count(token) > 1:
                raise ValueError(f"{token} is given twice; keep one")
        return tokens

    @model_validator(mode="after")
    def _vocabulary_holds_what_is_always_in_it(self) -> Self:
        least = len(self.specials) + BYTES
        if self.vocab_size < least:
            raise ValueError(f"vocab_size: {self.vocab_size:,} is below the {least:,} of special tokens and bytes")
        return self

    @model_validator(mode="after")
    def _unigram_fits(self) -> Self:
        if self.algorithm == "unigram" and self.sample_bytes > MAX_UNIGRAM_SAMPLE:
            raise ValueError(
                f"sample_bytes: {self.sample_bytes:,} is more than the {MAX_UNIGRAM_SAMPLE:,} of unigram, whose suffix "
                "array must fit into memory; give less, or take bpe"
            )
        return self

    @property
    def specials(self) -> tuple[str, ...]:
        """All special tokens; a token's place is its id."""
        return (*SPECIAL_TOKENS, *self.special_tokens)


def tokenizer(config: TokenizerConfig, *, documents: Path, out: Path) -> Metrics:
    """Write a tokenizer that transformers loads, and how well it compresses each language and source of the corpus.

    Encoding adds no token by itself: shards put `<|bos|>` before each document, the chat template sets the markers.
    Raises UserError naming the size that can be reached when the corpus is too small for the vocabulary.
    """
    from pipelines.tokens.learning import build

    return build(config, documents, out)


TOKENIZER = Stage("tokenizer", version=2, run=tokenizer, libraries=("regex", "sentencepiece", "tokenizers"))
