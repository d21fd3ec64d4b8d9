"""The token loop: a prompt's ids in, pieces of text out, one token at a time through a key-value cache."""

import copy
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoTokenizer, DynamicCache

from pipelines.artifacts.errors import UserError
from pipelines.models.loading import load_model
from pipelines.serving.text import TextStream
from pipelines.tokens.byte_level import token_bytes

PREFILL_TOKENS = 512
"""Prompt tokens in one forward pass: bounds memory, and how long a cancelled request goes on."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn, and where a completion ends."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stops: tuple[str, ...] = ()
    choices: int = 1


@dataclass(frozen=True)
class Piece:
    """Text of a choice as it came; the last piece of a choice says why it ended and how many tokens it took."""

    choice: int
    text: str
    ended: Literal["stop", "length"] | None = None
    tokens: int = 0


class Cancelled(Exception):
    """The one who asked has gone."""


class Engine:
    """A model with its tokenizer, ready to complete one prompt at a time."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = load_model(folder, device=device)
        self.context: int = self.model.config.max_position_embeddings
        self.controls = frozenset(self.tokenizer.all_special_ids) | frozenset(_added_specials(self.tokenizer))
        self.vocabulary = _vocabulary(self.tokenizer, self.model.config.vocab_size)

    @torch.inference_mode()
    def complete(
        self, prompt: Sequence[int], sampling: Sampling, cancelled: threading.Event | None = None
    ) -> Iterator[Piece]:
        """Yield the pieces of every choice, one choice after the other; raise Cancelled once the event is set.

        A control token is never text: drawn by the model, it ends the choice.
        """
        cancelled = cancelled or threading.Event()
        cache, logits = self._read(prompt, cancelled)
        for choice in range(sampling.choices):
            last = choice + 1 == sampling.choices
            own = cache if last else copy.deepcopy(cache)
            yield from self._choice(choice, own, logits, sampling, cancelled)

    def _read(self, prompt: Sequence[int], cancelled: threading.Event) -> tuple[DynamicCache, torch.Tensor]:
        """Return the cache of the prompt and the logits of the token after it."""
        cache = DynamicCache(config=self.model.config)
        logits = torch.empty(0)
        for start in range(0, len(prompt), PREFILL_TOKENS):
            logits = self._step(prompt[start : start + PREFILL_TOKENS], cache, cancelled)
        return cache, logits

    def _step(self, ids: Sequence[int], cache: DynamicCache, cancelled: threading.Event) -> torch.Tensor:
        """Read the ids into the cache and return the logits after the last, as float32 [vocabulary]."""
        if cancelled.is_set():
            raise Cancelled
        ids_BT = torch.tensor([list(ids)], device=self.model.device)
        output: Any = self.model(input_ids=ids_BT, past_key_values=cache, use_cache=True, logits_to_keep=1)
        logits: torch.Tensor = output.logits[0, -1].float()
        return logits[: len(self.vocabulary)]

    def _choice(
        self, choice: int, cache: DynamicCache, logits: torch.Tensor, sampling: Sampling, cancelled: threading.Event
    ) -> Iterator[Piece]:
        generator = torch.Generator(device="cpu").manual_seed((sampling.seed + choice) % 2**63)
        text = TextStream(self.vocabulary, sampling.stops)
        for count in range(1, sampling.max_tokens + 1):
            token = draw(logits, sampling, generator)
            if token in self.controls:
                yield Piece(choice, text.finish(), "stop", count - 1)
                return
            settled = text.push(token)
            if text.stopped:
                yield Piece(choice, settled, "stop", count)
                return
            if count == sampling.max_tokens:
                yield Piece(choice, settled + text.finish(), "length", count)
                return
            if settled:
                yield Piece(choice, settled)
            logits = self._step([token], cache, cancelled)


def draw(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Return the next token: the likeliest at temperature 0, else one of the nucleus (Holtzman et al. 2020)."""
    if not torch.isfinite(logits).any() or torch.isnan(logits).any():
        raise FloatingPointError("the model's logits are not finite; check its weights")
    if sampling.temperature == 0:
        return int(logits.argmax())
    scaled = (logits.double().cpu() - logits.max().double().cpu()) / sampling.temperature
    probabilities, order = torch.sort(scaled.softmax(-1), descending=True, stable=True)
    before = probabilities.cumsum(-1) - probabilities
    probabilities[before >= sampling.top_p] = 0
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])


def _added_specials(tokenizer: Any) -> list[int]:
    return [index for index, token in tokenizer.added_tokens_decoder.items() if token.special]


def _vocabulary(tokenizer: Any, rows: int) -> list[bytes]:
    """Return the bytes of every id; raise UserError unless the tokenizer is a byte-level one."""
    decoder = tokenizer.backend_tokenizer.decoder
    if type(decoder).__name__ != "ByteLevel":
        raise UserError(f"tokenizer: its decoder is {type(decoder).__name__}, not ByteLevel; serve a byte-level model")
    known: dict[str, int] = tokenizer.get_vocab()
    size = min(rows, max(known.values()) + 1)
    table = [b""] * size
    for token, index in known.items():
        table[index] = token_bytes(token)
    return table
