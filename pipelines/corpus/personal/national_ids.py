"""National identity, social-security and tax numbers of people, by their written form, their check and their name.

A number stands alone as evidence where its check refuses 98 of 100 random numbers of its form, or where its form is
used for nothing else. Any other needs one of its names shortly before it. The checks are python-stdnum's; where that
asks for today's date (Belgium, Korea, Norway, Sweden), or for a table of places that lacks some (China), the check is
put together here: a corpus must not depend on the day on which it is made.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import NamedTuple

Check = Callable[[str], bool]


class Form(NamedTuple):
    """A written form, `d` for a digit and `A` for a capital, its check, and the names that it needs before it."""

    shapes: tuple[str, ...]
    check: Check
    names: re.Pattern[str] | None = None


def _stdnum(module: str) -> Check:
    """Return the check of one of python-stdnum's modules, which is imported when the first number needs it."""

    @cache
    def load() -> Check:
        found: Check = import_module(f"stdnum.{module}").is_valid
        return found

    def check(number: str) -> bool:
        try:
            return load()(number)
        except (LookupError, ValueError):  # a bug there must not end a run here
            return False

    return check


def _named(*names: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W\d_])(?:{'|'.join(names)})(?![^\W\d_])[^\d\n]{{0,24}}\Z", re.IGNORECASE)


def _digits(number: str) -> str:
    return "".join(filter(str.isdigit, number))


def is_date(month: str, day: str) -> bool:
    """Return whether some year has this day."""
    return 1 <= int(month) <= 12 and 1 <= int(day) <= (29 if month == "02" else 30 if month in _SHORT else 31)


_SHORT = ("04", "06", "09", "11")


def _be(number: str) -> bool:
    digits = _digits(number)
    base, check = int(digits[:9]), int(digits[9:])
    if not is_date(f"{int(digits[2:4]) % 20:02d}", digits[4:6]):
        return False
    return check in (97 - base % 97, 97 - (2_000_000_000 + base) % 97)


def _cn(number: str) -> bool:
    from stdnum.iso7064 import mod_11_2

    return number[6:8] in ("18", "19", "20") and is_date(number[10:12], number[12:14]) and mod_11_2.is_valid(number)


def _kr(number: str) -> bool:
    digits = _digits(number)
    total = sum(
        weight * int(digit) for weight, digit in zip((2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), digits, strict=False)
    )
    return is_date(digits[2:4], digits[4:6]) and int(digits[12]) == (11 - total % 11) % 10


def _no(number: str) -> bool:
    digits = [int(digit) for digit in _digits(number)]
    if not is_date(f"{digits[2] % 4}{digits[3]}", f"{digits[0] % 4}{digits[1]}"):
        return False
    sums = [
        sum(weight * digit for weight, digit in zip(weights, digits, strict=False)) % 11
        for weights in ((3, 7, 6, 1, 8, 9, 4, 5, 2, 1), (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1))
    ]
    return sums == [0, 0]


def _se(number: str) -> bool:
    from stdnum import luhn

    digits = _digits(number)[-10:]
    day = f"{int(digits[4:6]) % 60:02d}"  # a coordination number has 60 added to its day
    return is_date(digits[2:4], day) and luhn.is_valid(digits)


_ELEVEN = ("ddddddddddd",)
_NINE = ("ddd ddd ddd", "ddd-ddd-ddd", "ddddddddd")
_NINO = re.compile(r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][\d ]+[A-D]")
_SOCIAL = ("ssn", "social security(?: number| no)?", "tax(?:payer)? id(?:entification)?(?: number)?", "tin", "itin")

FORMS = (
    Form(("ddd-dd-dddd",), _stdnum("us.ssn")),
    Form(("ddd dd dddd", "ddddddddd"), _stdnum("us.ssn"), _named(*_SOCIAL)),
    Form(("ddd-dd-dddd", "ddd dd dddd", "ddddddddd"), _stdnum("us.itin"), _named(*_SOCIAL)),
    Form(_NINE, _stdnum("ca.sin"), _named("sin", "social insurance(?: number| no)?", "nas")),
    Form(("AAddddddA", "AA dd dd dd A"), lambda number: bool(_NINO.fullmatch(number))),
    Form(("ddd ddd dddd", "dddddddddd", "ddd-ddd-dddd"), _stdnum("gb.nhs"), _named("nhs(?: number| no)?")),
    Form(
        ("ddddddddA", "dddddddd-A", "dddddddd A"),
        _stdnum("es.dni"),
        _named("dni", "nif", "documento nacional(?: de identidad)?"),
    ),
    Form(("AdddddddA", "A-ddddddd-A"), _stdnum("es.nie"), _named("nie", "nif", "extranjero")),
    Form(("AAAAAAddAddAdddA",), _stdnum("it.codicefiscale")),
    Form(("d" * 15, "d dd dd dd ddd ddd dd"), _stdnum("fr.nir")),
    Form(
        ("dd ddd ddd ddd", *_ELEVEN),
        _stdnum("de.idnr"),
        _named("steuer-?id", "idnr", "steuer(?:liche )?-?identifikationsnummer", "tax id(?:entification)?(?: number)?"),
    ),
    Form(("ddddddddd", "dddd.dd.ddd"), _stdnum("nl.bsn"), _named("bsn", "burgerservicenummer", "sofinummer")),
    Form(("dd.dd.dd-ddd.dd", *_ELEVEN), _be),
    Form(_ELEVEN, _stdnum("pl.pesel"), _named("pesel")),
    Form(("dddddd-dddd", "dddddddd-dddd"), _se),
    Form(("dddddd-dddA", "dddddd-dddd", "ddddddAdddA", "ddddddAdddd"), _stdnum("fi.hetu")),
    Form((*_ELEVEN, "dddddd ddddd"), _no),
    Form(("ddd.dddd.dddd.dd", "d" * 13), _stdnum("ch.ssn")),
    Form(("dddddd/dddd",), _stdnum("cz.rc"), _named("rodné číslo", "r\\. ?č\\.", "birth number")),
    Form(("ddd.ddd.ddd-dd",), _stdnum("br.cpf")),
    Form(_ELEVEN, _stdnum("br.cpf"), _named("cpf")),
    Form(("dddd dddd dddd", "dddd-dddd-dddd", "d" * 12), _stdnum("in_.aadhaar"), _named("aadhaa?r", "uidai?", "uid")),
    Form(("d" * 17 + "A", "d" * 18), _cn),
    Form(("dddddd-ddddddd",), _kr),
    Form(("AAAAddddddAAAAAAdd", "AAAAddddddAAAAAAAd"), _stdnum("mx.curp")),
    Form(_NINE, _stdnum("au.tfn"), _named("tfn", "tax file(?: number)?")),
    Form(_ELEVEN, _stdnum("tr.tckimlik"), _named("t\\.?c\\.?", "kimlik", "tckn")),
    Form(("dddddddA", "dddddddAA"), _stdnum("ie.pps"), _named("pps(?:n| number| no)?")),
)
"""Of the United States, Canada, the United Kingdom, Spain, Italy, France, Germany, the Netherlands, Belgium, Poland,
Sweden, Finland, Norway, Switzerland, Czechia, Brazil, India, China, Korea, Mexico, Australia, Turkey and Ireland."""

_BY_SHAPE: dict[str, list[Form]] = {}
for _form in FORMS:
    for _shape in _form.shapes:
        _BY_SHAPE.setdefault(_shape, []).append(_form)

_SHAPE_OF = str.maketrans("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", "d" * 10 + "A" * 26)
LONGEST, MOST_GROUPS = 21, 7
"""Characters, and groups between spaces, of the longest form."""
NAME_BEFORE = 64
"""Characters in which a name may stand before its number."""
_NUMERIC = re.compile(r"(?<![\w.,+=/-])\d(?:[ ./-]?\d){7,19}(?![\w-]|[.,/]\d)")
_LETTERED_END = re.compile(r"(?:\d[ -]?[A-Z]|\d[A-Z]{2}|[A-Z]\d{1,4})(?!\w)")
_LETTERED = re.compile(r"(?<![\w.+=/-])(?:[A-Z]{2} \d\d \d\d \d\d [A-D]|\d{8} [A-Z]|[A-Z]{0,6}-?\d[A-Z\d-]{4,18})\Z")


def find_national_ids(text: str) -> Iterator[tuple[int, int]]:
    """Yield where a person's national number starts and ends."""
    for match in _NUMERIC.finditer(text):
        yield from _in_groups(text, match.group().translate(_SHAPE_OF), match.start())
    for match in _LETTERED_END.finditer(text):
        found = _LETTERED.search(text, max(0, match.end() - LONGEST), match.end())
        if found and _is_national_id(text, found.group().translate(_SHAPE_OF), found.start()):
            yield found.span()


def _in_groups(text: str, shape: str, start: int) -> Iterator[tuple[int, int]]:
    """Yield the longest runs of the groups, as spaces divide them, that are a number of some form."""
    edges = [0, *(place + 1 for place, mark in enumerate(shape) if mark == " "), len(shape) + 1]
    first = 0
    while first < len(edges) - 1:
        for last in range(min(len(edges) - 1, first + MOST_GROUPS), first, -1):
            run = shape[edges[first] : edges[last] - 1]
            if run in _BY_SHAPE and _is_national_id(text, run, start + edges[first]):
                yield start + edges[first], start + edges[last] - 1
                first = last - 1
                break
        first += 1


def _is_national_id(text: str, shape: str, start: int) -> bool:
    """Return whether the text of this shape is a national number, by its check and what stands before it."""
    number = text[start : start + len(shape)]
    first = max(0, start - NAME_BEFORE)
    return any(
        (form.names is None or form.names.search(text, first, start)) and form.check(number)
        for form in _BY_SHAPE.get(shape, ())
    )
