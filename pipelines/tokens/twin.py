"""The tiktoken twin of a byte-level BPE: the same ids several times faster, and what proves that they are the same.

Merges: tiktoken joins the two neighbours whose join has the lowest id, `tokenizers` the pair whose merge comes first.
Where ids rise with the merges, no two merges give one token and each token comes whole out of its own bytes, a join
that is in the vocabulary is always that token's own merge, so the two agree on every piece. All of this is checked on
the whole vocabulary. Cuts: the pattern must be one of ours, and every code point below `CHECKED` of the same class in
both engines of regular expressions; a text with another character is left to `tokenizers`. See docs/adr/0013.
"""

import json
import re
from functools import cache
from itertools import product
from typing import Any

import tiktoken
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from pipelines.tokens.byte_level import byte_of_character, token_bytes
from pipelines.tokens.pieces import MAX_RUN, byte_pieces, split_pattern

CHECKED = 0x40000
"""Code points from here on are unassigned, tags or private: they are not compared, and their texts not trusted."""

CLASSES = (r"\p{L}", r"\p{N}", r"\s", r"(?i:s|t|r|e|v|m|l|d)")
"""What the pattern asks of a character, but for the literal ones."""

_OTHERS = range(0x80, 0x100)
_RUN = b"x" * (MAX_RUN + 1)
_KINDS = ("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "\t\n\v\f\r ")


class Twin:
    """The tiktoken encodings of one tokenizer: by its pattern, and by the same one with unbounded runs.

    A text without a run of more than `MAX_RUN` bytes is cut alike by both, and the second is twice as fast.
    """

    def __init__(self, pattern: str, ranks: dict[bytes, int], special: dict[str, int]) -> None:
        unbounded = pattern.replace(f"{{1,{MAX_RUN}}}", "+").replace(f"{{0,{MAX_RUN}}}", "*")
        self._bounded = tiktoken.Encoding("bounded", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
        self._unbounded = tiktoken.Encoding(
            "unbounded", pat_str=unbounded, mergeable_ranks=ranks, special_tokens=special
        )

    def trusts(self, text: str) -> bool:
        """Return whether every character of the text is known to be cut alike."""
        return text.isascii() or not doubtful().search(text)

    def encode(self, text: str) -> Any:
        """Return the ids of a trusted text as uint32; a special token in it is text."""
        encoding = self._bounded if has_long_run(text.encode()) else self._unbounded
        return encoding.encode_to_numpy(text, disallowed_special=())


def twin_of(tokenizer: Tokenizer) -> Twin | None:
    """Return the twin of a tokenizer that encodes text only, or None where equal ids are not proved."""
    loaded = json.loads(tokenizer.to_str())
    pattern = _patterns().get(json.dumps(loaded["pre_tokenizer"], sort_keys=True))
    added = loaded["added_tokens"]
    plain = loaded["normalizer"] is None and all(token["special"] for token in added)
    ranks = merge_ranks(loaded["model"]) if pattern and plain else None
    if pattern is None or ranks is None:
        return None
    return Twin(pattern, ranks, {token["content"]: token["id"] for token in added})


def merge_ranks(model: dict[str, Any]) -> dict[bytes, int] | None:
    """Return the id of every byte and merged token of a BPE model, or None where tiktoken's rule may differ."""
    odd = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")
    if model.get("type") != "BPE" or any(model.get(name) for name in odd):
        return None
    vocabulary: dict[str, int] = model["vocab"]
    if any(character not in vocabulary for character in byte_of_character()):
        return None
    ranks = {character: vocabulary[character] for character in byte_of_character()}
    last = -1
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        whole = left + right
        if left not in ranks or right not in ranks or whole in ranks or vocabulary.get(whole, -1) <= last:
            return None
        ranks[whole] = last = vocabulary[whole]
    alone = Tokenizer(models.BPE(vocab=vocabulary, merges=[tuple(merge) for merge in model["merges"]]))
    found = alone.encode_batch_fast(list(ranks), add_special_tokens=False)
    if any(encoded.ids != [number] for encoded, number in zip(found, ranks.values(), strict=True)):
        return None
    return {token_bytes(token): number for token, number in ranks.items()}


def has_long_run(text: bytes) -> bool:
    """Return whether a run of more than `MAX_RUN` letters, blanks or other marks may stand in UTF-8 text.

    A byte beyond ASCII counts as all three, so a run is never missed.
    """
    return any(_RUN in text.translate(table) for table in _run_tables())


@cache
def _run_tables() -> tuple[bytes, ...]:
    kinds = [set(kind.encode()) for kind in _KINDS]
    kinds.append(set(range(0x80)) - kinds[0] - kinds[1] - set(b"0123456789"))
    return tuple(bytes(120 if byte in kind or byte in _OTHERS else 32 for byte in range(256)) for kind in kinds)


@cache
def _patterns() -> dict[str, str]:
    """Return our patterns by the form in which tokenizer.json describes them."""
    found = {}
    for digits, whitespace in product(range(1, 9), ("runs", "single")):
        described = Tokenizer(models.BPE())
        described.pre_tokenizer = byte_pieces(digits, whitespace)  # type: ignore[arg-type]
        written = json.dumps(json.loads(described.to_str())["pre_tokenizer"], sort_keys=True)
        found[written] = split_pattern(digits, whitespace)  # type: ignore[arg-type]
    return found


@cache
def doubtful() -> re.Pattern[str]:
    """Return what finds the characters that the two engines class differently, or that were not compared."""
    characters = "".join(map(chr, [*range(0xD800), *range(0xE000, CHECKED)]))
    differing: set[str] = set()
    for kind in CLASSES:
        differing |= _members_by_tokenizers(kind, characters) ^ _members_by_tiktoken(kind, characters)
    listed = "".join(re.escape(character) for character in sorted(differing))
    return re.compile(f"[{listed}{chr(CHECKED)}-\U0010ffff]")


def _members_by_tokenizers(kind: str, characters: str) -> set[str]:
    split = pre_tokenizers.Split(Regex(f"(?:{kind})+"), "removed", invert=True)
    chunks = (characters[start : start + 256] for start in range(0, len(characters), 256))
    return {character for chunk in chunks for piece, _ in split.pre_tokenize_str(chunk) for character in piece}


def _members_by_tiktoken(kind: str, characters: str) -> set[str]:
    ranks = {bytes([byte]): byte for byte in range(256)}
    encoding = tiktoken.Encoding("class", pat_str=f"(?:{kind})+", mergeable_ranks=ranks, special_tokens={})
    return set(encoding.decode_bytes(encoding.encode_ordinary(characters)).decode())
