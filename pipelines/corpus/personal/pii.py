"""Personal data in text: e-mail and public IP addresses, telephone, IBAN, card and national numbers, keys and tokens.

Every pattern is anchored and bounded, so that the cost stays linear in any text, and starts with a rare character, so
that it stays low in ordinary text. What a checksum or a registry can refuse is refused. Names and postal addresses
need a model and are not looked for.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pipelines.corpus.personal.checksums import iban_length, is_card, is_iban
from pipelines.corpus.personal.keys import find_keys
from pipelines.corpus.personal.national_ids import find_national_ids
from pipelines.corpus.personal.phones import find_phones


class Span(NamedTuple):
    """A piece of personal data: `text[start:end]`, counted in code points."""

    kind: str
    start: int
    end: int


Places = Iterator[tuple[int, int]]

MAX_LOCAL_PART = 64
_AT_DOMAIN = re.compile(r"@(?:[A-Za-z0-9-]{1,63}\.){1,8}(?:[A-Za-z]{2,24}|xn--[A-Za-z0-9-]{2,59})(?![\w-]|\.\w)")
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&*+/=?^_{|}~-]+(?:[.'][A-Za-z0-9!#$%&*+/=?^_{|}~-]+)*\Z")
"""RFC 5322's dot-atom without the backtick, and with an apostrophe only inside, since texts quote addresses."""
_NOT_PERSONAL = re.compile(r"(?:git@.*|.*[@.](?:example\.(?:com|org|net)|example|invalid|test|localhost))\Z", re.I)


def _emails(text: str) -> Places:
    for match in _AT_DOMAIN.finditer(text):
        at = match.start()
        local = _LOCAL_PART.search(text[max(0, at - MAX_LOCAL_PART) : at])
        if local:
            start = at - len(local.group())
            if not _NOT_PERSONAL.match(text[start : match.end()]):
                yield start, match.end()


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


_CARD = re.compile(
    r"\d(?<![\w.+-].)(?:\d{11,18}|\d{3}(?:[ -]\d{4}){2,3}(?:[ -]\d{1,4})?|\d{3}[ -]\d{6}[ -]\d{4,5})(?![\w-]|\.\d)",
)


def _cards(text: str) -> Places:
    for match in _CARD.finditer(text):
        if is_card(re.sub("[ -]", "", match.group())):
            yield match.span()


_IPV4 = re.compile(r"(?<![\w.])\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\w-]|\.\d)")
_IPV4_INSIDE = re.compile(r"\.\d{1,3}\.\d{1,3}\.\d")
_IPV6 = re.compile(
    r"(?<![\w:.])(?:(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}|[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{2,34})(?![\w:])"
)
_IPV6_INSIDE = re.compile(r":[0-9A-Fa-f]{0,4}:")


_COUNTED = re.compile(r"(?:\b(?:versions?|release|sections?|sect?|chapter|clause|figure|rule)\.?|§)\s{0,2}\Z", re.I)
"""What stands before numbers with dots that are no addresses."""


def _ips(text: str) -> Places:
    for inside, pattern in ((_IPV4_INSIDE, _IPV4), (_IPV6_INSIDE, _IPV6)):
        for match in pattern.finditer(text) if inside.search(text) else ():
            if _is_public(match.group()) and not _COUNTED.search(text, max(0, match.start() - 16), match.start()):
                yield match.span()


def _is_public(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.is_global and not parsed.is_multicast  # a netmask such as ffff:… reads as multicast


FINDERS: dict[str, Callable[[str], Places]] = {
    "key": find_keys,
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "ip": _ips,
    "national_id": find_national_ids,
    "phone": find_phones,
}


OF_NUMBERS = frozenset({"iban", "card", "national_id", "phone"})
_NUMBERS = re.compile(r"\d(?:[A-Za-z ()./-]{0,4}\d){5}")
"""A first look, and for most texts the last: without six digits close together there is none of these."""


def find_pii(text: str) -> list[Span]:
    """Return the personal data in `text` by place; pieces that overlap are one, of the kind first in `FINDERS`."""
    has_numbers = _NUMBERS.search(text)
    finders = [(kind, finder) for kind, finder in FINDERS.items() if has_numbers or kind not in OF_NUMBERS]
    found = [Span(kind, start, end) for kind, finder in finders for start, end in finder(text)]
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
