"""Personal data in text: e-mail and public IP addresses, telephone numbers, IBANs, payment cards, keys and tokens.

Every pattern is anchored and bounded, so that the cost stays linear in any text, and starts with a rare character, so
that it stays low in ordinary text. What a checksum or a registry can refuse is refused. Names and postal addresses
need a model and are not looked for.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pipelines.corpus.checksums import iban_length, is_card, is_iban


class Span(NamedTuple):
    """A piece of personal data: `text[start:end]`, counted in code points."""

    kind: str
    start: int
    end: int


Places = Iterator[tuple[int, int]]

MAX_LOCAL_PART = 64
_AT_DOMAIN = re.compile(r"@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-]|\.\w)")
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&*+/=?^_{|}~.-]+\Z")
_NOT_PERSONAL = re.compile(r"(?:git@.*|.*[@.](?:example\.(?:com|org|net)|example|invalid|test|localhost))\Z", re.I)


def _emails(text: str) -> Places:
    for match in _AT_DOMAIN.finditer(text):
        at = match.start()
        local = _LOCAL_PART.search(text[max(0, at - MAX_LOCAL_PART) : at])
        if local:
            start = at - len(local.group())
            if not _NOT_PERSONAL.match(text[start : match.end()]):
                yield start, match.end()


_MARKED = {
    "AKIA": r"AKIA[0-9A-Z]{16}",
    "ASIA": r"ASIA[0-9A-Z]{16}",
    "gh": r"gh[opsur]_[A-Za-z0-9]{36,255}",
    "github_pat_": r"github_pat_[A-Za-z0-9_]{40,255}",
    "glpat-": r"glpat-[A-Za-z0-9_-]{20,64}",
    "xox": r"xox[abeoprs]-[A-Za-z0-9-]{10,255}",
    "AIza": r"AIza[0-9A-Za-z_-]{35}",
    "ya29.": r"ya29\.[0-9A-Za-z_-]{20,255}",
    "sk-": r"sk-[A-Za-z0-9_-]{20,255}",
    "k_live_": r"[rs]k_live_[0-9A-Za-z]{16,255}",
    "hf_": r"hf_[A-Za-z]{30,64}",
    "npm_": r"npm_[A-Za-z0-9]{36}",
    "pypi-": r"pypi-[A-Za-z0-9_-]{50,255}",
    "eyJ": r"eyJ[A-Za-z0-9_-]{10,2048}\.eyJ[A-Za-z0-9_-]{10,4096}\.[A-Za-z0-9_-]{10,1024}",
}
"""Keys that their issuers mark: a literal part to look for first, and the whole pattern."""

_KEYS = {mark: re.compile(rf"(?<![A-Za-z0-9_])(?:{pattern})(?![A-Za-z0-9])") for mark, pattern in _MARKED.items()}
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY-----[^-]{0,16384}(?:-----END [A-Z0-9 ]{1,40}-----)?"
)
_ASSIGNED = re.compile(r"[:=]\s{0,3}[\"']?([A-Za-z0-9_+/-]{20,255}={0,2})")
_SECRET_NAME = re.compile(r"(?:api|access|auth|secret)[_ -]?(?:key|token)[\"']?\s{0,3}\Z", re.IGNORECASE)


def _keys(text: str) -> Places:
    for mark, pattern in _KEYS.items():
        if mark in text:
            yield from (match.span() for match in pattern.finditer(text))
    if "PRIVATE KEY-----" in text:
        yield from (match.span() for match in _PRIVATE_KEY.finditer(text))
    for match in _ASSIGNED.finditer(text):
        value = match.group(1)
        if _SECRET_NAME.search(text[max(0, match.start() - 24) : match.start()]) and _is_random(value):
            yield match.span(1)


def _is_random(value: str) -> bool:
    return sum(map(str.isdigit, value)) >= 3 and any(map(str.isalpha, value))


_IBAN_TAIL = re.compile(r"\d\d(?<=[A-Za-z]{2}\d\d)(?: ?[A-Za-z0-9]){11,30}")


def _ibans(text: str) -> Places:
    for match in _IBAN_TAIL.finditer(text):
        start = match.start() - 2
        wanted = iban_length(text[start : start + 2].upper())
        if wanted is None or text[max(0, start - 1) : start].isalnum():
            continue
        places = [place for place in range(start, match.end()) if text[place] != " "][:wanted]
        if is_iban("".join(text[place] for place in places).upper()):
            yield start, places[-1] + 1


_NUMBERS = re.compile(r"\d(?:[ ().-]{0,3}\d){6}")
"""A first look: without seven digits close together there is neither a card nor a telephone number."""

_CARD = re.compile(
    r"\d(?<![\w.+-].)(?:\d{11,18}|\d{3}(?:[ -]\d{4}){2,3}(?:[ -]\d{1,4})?|\d{3}[ -]\d{6}[ -]\d{4,5})(?![\w-]|\.\d)",
)


def _cards(text: str) -> Places:
    for match in _CARD.finditer(text) if _NUMBERS.search(text) else ():
        if is_card(re.sub("[ -]", "", match.group())):
            yield match.span()


_IPV4 = re.compile(r"(?<![\w.])\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\w-]|\.\d)")
_IPV4_INSIDE = re.compile(r"\.\d{1,3}\.\d{1,3}\.\d")
_IPV6 = re.compile(
    r"(?<![\w:.])(?:(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,34})(?![\w:])"
)
_IPV6_INSIDE = re.compile(r":[0-9A-Fa-f]{0,4}:")


def _ips(text: str) -> Places:
    for inside, pattern in ((_IPV4_INSIDE, _IPV4), (_IPV6_INSIDE, _IPV6)):
        for match in pattern.finditer(text) if inside.search(text) else ():
            if _is_public(match.group()):
                yield match.span()


def _is_public(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.is_global and not parsed.is_multicast  # a netmask such as ffff:… reads as multicast


_EXTENSION = r"(?:[ ]?(?:x|ext\.?)[ ]?\d{1,5})?"
_PHONE = re.compile(
    rf"""
    (?<![\w.+/=-])
    (?: (?:\+|00)[1-9]\d{{0,2}}[ .-]?(?:\(\d{{1,4}}\)[ .-]?)?[1-9]\d{{0,3}}(?:[ .-]?\d{{2,4}}){{1,4}}
      | (?:1[ .-])?(?:\([2-9]\d\d\)[ ]?|[2-9]\d\d[ .-])[2-9]\d\d[.-]\d{{4}}
    )
    {_EXTENSION} (?![\w]|[.,-]\d)
    """,
    re.VERBOSE,
)
_DIALLED = re.compile(rf"\d(?<!\d.)(?:[ ().-]{{0,2}}\d){{6,14}}{_EXTENSION}(?![\w]|[.,-]\d)")
_CUE = re.compile(
    r"\b(?:(?:tele|cell|smart)?phone|tel|mobile|cell|fax|whatsapp|call|dial)\b[^\d+(]{0,32}[+(]{0,2}\Z", re.I
)


def _phones(text: str) -> Places:
    if not _NUMBERS.search(text):
        return
    for match in _PHONE.finditer(text):
        if sum(map(str.isdigit, match.group())) >= 8:
            yield match.span()
    for match in _DIALLED.finditer(text):
        before = text[max(0, match.start() - 44) : match.start()]
        if _CUE.search(before):
            yield match.start() - (len(before) - len(before.rstrip("+("))), match.end()


FINDERS: dict[str, Callable[[str], Places]] = {
    "key": _keys,
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "ip": _ips,
    "phone": _phones,
}


def find_pii(text: str) -> list[Span]:
    """Return the personal data in `text` by place; pieces that overlap are one, of the kind first in `FINDERS`."""
    found = [Span(kind, start, end) for kind, finder in FINDERS.items() for start, end in finder(text)]
    if len(found) < 2:
        return found
    rank = {kind: place for place, kind in enumerate(FINDERS)}
    apart: list[Span] = []
    for span in sorted(found, key=lambda span: (span.start, span.end)):
        if apart and span.start < apart[-1].end:
            last = apart[-1]
            kind = min(last.kind, span.kind, key=rank.__getitem__)
            apart[-1] = Span(kind, last.start, max(last.end, span.end))
        else:
            apart.append(span)
    return apart


def replace_pii(text: str, spans: list[Span]) -> tuple[str, list[Span]]:
    """Return the text with each span, apart and by place, replaced by `<KIND>`, and where the placeholders stand."""
    pieces: list[str] = []
    placed: list[Span] = []
    read = written = 0
    for kind, start, end in spans:
        placeholder = f"<{kind.upper()}>"
        pieces += (text[read:start], placeholder)
        written += start - read
        placed.append(Span(kind, written, written + len(placeholder)))
        written += len(placeholder)
        read = end
    return "".join([*pieces, text[read:]]), placed
