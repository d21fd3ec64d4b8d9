"""Numbers that carry their own proof: payment cards (Luhn, ISO/IEC 7812) and IBANs (ISO 13616)."""

import re

_BRANDS = re.compile(
    r"""
      4(?:\d{12}|\d{15}|\d{18})                                                            # Visa
    | (?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}                      # Mastercard
    | 3[47]\d{13}                                                                          # American Express
    | (?:6011|65\d\d|64[4-9]\d)\d{12,15}                                                   # Discover
    | 3(?:0[0-5]|[68]\d)\d{11}                                                             # Diners Club
    | (?:2131|1800)\d{11} | 35\d{14}                                                       # JCB
    | 62\d{14,17}                                                                          # UnionPay
    | (?:50[0-9]{2}|5[6-8]\d\d|6304|67\d\d)\d{8,15}                                        # Maestro
    """,
    re.VERBOSE,
)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

_IBAN_LENGTHS = {
    country: int(length)
    for length, countries in {
        "15": "NO",
        "16": "BE",
        "18": "DK FI FO GL NL SD",
        "19": "MK SI",
        "20": "AT BA EE KZ LT LU MN XK",
        "21": "CH HR LI LV",
        "22": "BG BH CR DE GB GE IE ME RS VA",
        "23": "AE GI IL IQ OM SO TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG",
        "25": "LY PT ST",
        "26": "IS TR",
        "27": "BI DJ FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HN HU LB NI PL SV",
        "29": "BR EG PS QA UA",
        "30": "JO KW MU YE",
        "31": "MT SC",
        "32": "LC",
        "33": "RU",
    }.items()
    for country in countries.split()
}


def is_card(digits: str) -> bool:
    """Return whether the digits have the prefix and length of a card brand and a right check digit."""
    if not _BRANDS.fullmatch(digits):
        return False
    plain = sum(map(int, digits[-1::-2]))
    return (plain + sum(_DOUBLED[int(digit)] for digit in digits[-2::-2])) % 10 == 0


def iban_length(country: str) -> int | None:
    """Return how long an IBAN of the country is, or None where there is none."""
    return _IBAN_LENGTHS.get(country)


def is_iban(code: str) -> bool:
    """Return whether the code, capitals and digits alone, has its country's length and a right check number."""
    if len(code) != iban_length(code[:2]):
        return False
    return int("".join(str(int(mark, 36)) for mark in code[4:] + code[:4])) % 97 == 1
