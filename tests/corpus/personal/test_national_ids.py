"""National numbers: those of python-stdnum's documentation are found, and chance hardly ever makes one."""

import random
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.corpus.personal.national_ids import FORMS, Form, _be, _cn, _kr, _no, _se, find_national_ids

CASES = [
    ("us", "His SSN is {}.", "536-90-4399"),
    ("us", "Social Security number: {}", "536904399"),
    ("us", "ITIN {}", "912-90-3456"),
    ("ca", "Social insurance number {}", "123-456-782"),
    ("gb", "National insurance {} applies", "AB 12 34 56 C"),
    ("gb", "nhs number: {}", "943 476 5870"),
    ("es", "con DNI {},", "54362315K"),
    ("es", "NIE: {}", "X2482300W"),
    ("it", "codice fiscale {}", "RCCMNL83S18D969H"),
    ("fr", "numéro {}.", "2 95 10 99 126 111 93"),
    ("de", "Steuer-ID {}", "36 574 261 809"),
    ("nl", "BSN: {}", "1112.22.333"),
    ("be", "le numéro {}", "85.07.30-033.28"),
    ("be", "le numéro {}", "17.07.30-033.84"),
    ("pl", "PESEL {}", "44051401359"),
    ("se", "personnummer {}", "880320-0016"),
    ("fi", "hetu {}", "131052-308T"),
    ("no", "nummer {}", "15108695088"),
    ("ch", "AHV {}", "756.9217.0769.85"),
    ("cz", "rodné číslo {}", "710319/2745"),
    ("br", "CPF {}", "390.533.447-05"),
    ("br", "CPF: {}", "39053344705"),
    ("in", "Aadhaar {}", "2341 2341 2346"),
    ("cn", "身份证 {}", "11010519491231002X"),
    ("kr", "number {}", "971013-9019902"),
    ("mx", "CURP {}", "BOXW310820HNERXN09"),
    ("au", "tax file number {}", "123 456 782"),
    ("tr", "T.C. kimlik no {}", "17291716060"),
    ("ie", "PPS number {}", "6433435F"),
]


def found(text: str) -> list[str]:
    return [text[start:end] for start, end in find_national_ids(text)]


@pytest.mark.parametrize(("country", "sentence", "number"), CASES)
def test_a_number_is_found_whole_in_its_sentence(country: str, sentence: str, number: str) -> None:
    assert found(sentence.format(number)) == [number]


def stands_alone(number: str) -> bool:
    shape = "".join("d" if mark.isdigit() else "A" if mark.isalpha() else mark for mark in number)
    return any(shape in form.shapes and form.names is None and form.check(number) for form in FORMS)


@pytest.mark.parametrize("number", [number for _, _, number in CASES])
def test_without_its_name_it_is_found_in_a_table_only_where_form_and_check_say_enough(number: str) -> None:
    assert found(f"| 1 | {number} | 2024 |") == [number] * stands_alone(number)


def test_the_forms_of_most_countries_stand_alone() -> None:
    alone = {country for country, _, number in CASES if stands_alone(number)}
    assert alone == {"us", "gb", "it", "fr", "be", "se", "fi", "no", "ch", "br", "cn", "kr", "mx"}


@pytest.mark.parametrize("module", ["be.nn", "kr.rrn", "no.fodselsnummer", "se.personnummer", "cn.ric"])
def test_checks_put_together_here_agree_with_the_library_on_past_dates(module: str) -> None:
    shapes, ours = {
        "be.nn": ("dd.dd.dd-ddd.dd", _be),
        "kr.rrn": ("dddddd-ddddddd", _kr),
        "no.fodselsnummer": ("ddddddddddd", _no),
        "se.personnummer": ("dddddd-dddd", _se),
        "cn.ric": ("d" * 18, _cn),
    }[module]
    theirs = import_module(f"stdnum.{module}")
    chooser = random.Random(module)
    agreed = 0
    for _ in range(40_000):
        digits = [chooser.choice("0123456789") for mark in shapes if mark == "d"]
        year, month, day = (
            f"{chooser.randint(40, 99)}",
            f"{chooser.randint(1, 12):02d}",
            f"{chooser.randint(1, 28):02d}",
        )
        if module == "cn.ric":
            digits[:14] = "110105" + "19" + year + month + day
        elif module == "no.fodselsnummer":
            digits[:6] = day + month + year
        else:
            digits[:6] = year + month + day
        rest = iter(digits)
        number = "".join(next(rest) if mark == "d" else mark for mark in shapes)
        if theirs.is_valid(number):
            agreed += 1
            assert ours(number), number
        if agreed >= 60:
            return
    assert agreed >= 60


@pytest.mark.parametrize(
    "text",
    [
        "320971484211054731 is of no place",
        "SSN 000-12-3456, SSN 666-12-3456 and SSN 460-00-9847",
        "2024-01-15 10:30, 1700000000000 and 1705314600123",
        "123 456 782 and 36 574 261 809 without a name",
        "BG123456A and ZZ 12 34 56 A have prefixes that are not given out",
        "RCCMNL83S18D969X, 131052-308U and 880320-0018 have wrong check characters",
        "ISBN 978-3-16-148410-0, version 1.2.3.4 and d41d8cd98f00b204e9800998ecf8427e",
        "970101-13199 in base 36 is 2B3F4A9Z",
    ],
)
def test_what_only_looks_like_one_is_left_alone(text: str) -> None:
    assert found(text) == []


ALONE = [(shape, form) for form in FORMS if form.names is None for shape in form.shapes]


@pytest.mark.parametrize(("shape", "form"), ALONE, ids=[shape for shape, _ in ALONE])
def test_a_form_that_stands_alone_refuses_98_of_100_random_numbers(shape: str, form: Form) -> None:
    if shape in ("ddd-dd-dddd", "AAddddddA", "AA dd dd dd A"):
        return  # the forms of the SSN and of the NINO, which nothing else is written in
    chooser = random.Random(shape)
    marks = {"d": "0123456789", "A": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    numbers = ["".join(chooser.choice(marks.get(mark, mark)) for mark in shape) for _ in range(800)]
    assert sum(map(form.check, numbers)) <= 0.02 * len(numbers)


@given(st.text(alphabet="0123456789 -./ABCXSSN", max_size=120))
def test_spans_lie_apart_inside_any_text(text: str) -> None:
    ends: dict[str, int] = {}
    for start, end in find_national_ids(text):
        assert 0 <= start < end <= len(text)
        kind = "letters" if any(mark.isalpha() for mark in text[start:end]) else "digits"
        assert start >= ends.get(kind, 0)
        ends[kind] = end
