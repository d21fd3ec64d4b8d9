"""Keys and tokens in text: those that their issuers mark, private key blocks, and values given to names of secrets."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from string import ascii_lowercase, ascii_uppercase, digits

_MARKED = {
    "AKIA": r"[0-9A-Z]{16}",
    "ASIA": r"[0-9A-Z]{16}",
    "gh": r"[opsur]_[A-Za-z0-9]{36,255}",
    "github_pat_": r"[A-Za-z0-9_]{40,255}",
    "glpat-": r"[A-Za-z0-9_-]{20,64}",
    "xox": r"[abeoprs]-[A-Za-z0-9-]{10,255}",
    "xapp-": r"[A-Za-z0-9-]{20,255}",
    "hooks.slack.com/": r"(?:services|workflows)/[A-Za-z0-9+/]{30,128}",
    "AIza": r"[0-9A-Za-z_-]{35}",
    "ya29.": r"[0-9A-Za-z_-]{20,255}",
    "sk-": r"[A-Za-z0-9_-]{20,255}",
    "sk_live_": r"[0-9A-Za-z]{16,255}",
    "rk_live_": r"[0-9A-Za-z]{16,255}",
    "SG.": r"[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",
    "hf_": r"[A-Za-z]{30,64}",
    "npm_": r"[A-Za-z0-9]{36}",
    "pypi-": r"[A-Za-z0-9_-]{50,255}",
    "eyJ": r"[A-Za-z0-9_-]{10,2048}\.eyJ[A-Za-z0-9_-]{10,4096}\.[A-Za-z0-9_-]{10,1024}",
}
"""Keys of AWS, GitHub, GitLab, Slack, Google, Stripe, SendGrid, OpenAI, Hugging Face, npm and PyPI, and JSON web tokens
(RFC 7519): the literal that they begin with, which is fast to look for, and what follows it."""

_KEYS = {
    mark: re.compile(rf"{re.escape(mark)}(?<![A-Za-z0-9_-]{re.escape(mark)})(?:{rest})(?![A-Za-z0-9])")
    for mark, rest in _MARKED.items()
}
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----[^-]{0,16384}(?:-----END [A-Z0-9 ]{1,40}-----)?"
)
_ASSIGNED = re.compile(r"[:=]\s{0,3}[\"'`]?(?:Bearer )?([A-Za-z0-9_+/.~-]{16,255}={0,2})")
_SECRET_NAME = re.compile(
    r"(?:(?:api|access|auth|secret|private|account|client|signing|encryption|master)[_ -]?(?:key|token|secret)"
    r"|(?:bearer|refresh|session|bot|app|id|oauth|personal)[_ -]?token|authorization|token|secret|passw(?:or)?d)"
    r"[\"'`]?\s{0,3}\Z",
    re.IGNORECASE,
)
NAME_BEFORE = 32
MIN_BITS = {"hex": 2.45, "other": 3.15}
"""Least entropy of a value, in bits a character: 16 random hexadecimal digits, or letters and digits, fall below it
once in a thousand times."""
_KINDS = str.maketrans(ascii_lowercase + ascii_uppercase + digits, "a" * 26 + "A" * 26 + "d" * 10)
_HEX = re.compile(r"[0-9a-f]+\Z|[0-9A-F]+\Z")


def find_keys(text: str) -> Iterator[tuple[int, int]]:
    """Yield where a key or token starts and ends; of an assignment, its value."""
    for mark, pattern in _KEYS.items():
        if mark in text:
            yield from (match.span() for match in pattern.finditer(text))
    if "PRIVATE KEY" in text:
        yield from (match.span() for match in _PRIVATE_KEY.finditer(text))
    for match in _ASSIGNED.finditer(text):
        if _SECRET_NAME.search(text, max(0, match.start() - NAME_BEFORE), match.start()) and is_random(match.group(1)):
            yield match.span(1)


def is_random(value: str) -> bool:
    """Return whether a value looks drawn at random: letters and digits, often changing, of high entropy.

    Random letters and digits change kind (lower, capital, digit) at every second place; names and paths seldom do.
    """
    kinds = "".join(filter(str.isalpha, value.translate(_KINDS)))
    changes = sum(one != other for one, other in pairwise(kinds))
    if "d" not in kinds or not kinds.strip("d") or changes < len(kinds) / 4:
        return False
    return entropy(value) >= MIN_BITS["hex" if _HEX.match(value) else "other"]


def entropy(value: str) -> float:
    """Return the Shannon entropy of the characters, in bits a character."""
    return -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())
