"""Personal data: found where it is, at a measured rate; left alone where a checksum or a registry says no."""

import json
import lzma
import random
import string
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.corpus.annotate import AnnotateConfig, annotate
from pipelines.corpus.documents import read_documents
from pipelines.corpus.filter import FilterConfig, RepetitionRules
from pipelines.corpus.filter import filter as filter_stage
from pipelines.corpus.personal.checksums import is_card, is_iban
from pipelines.corpus.personal.keys import is_random
from pipelines.corpus.personal.pii import FINDERS, Span, find_pii, replace_pii
from tests.corpus.test_annotate import write_parts

KINDS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "IBAN_CODE": "iban",
    "CREDIT_CARD": "card",
    "IP_ADDRESS": "ip",
    "US_SSN": "national_id",
}
FLOORS = {"email": 1.0, "phone": 0.78, "iban": 1.0, "card": 0.98, "ip": 1.0, "national_id": 1.0}


def found(text: str) -> list[tuple[str, str]]:
    return [(kind, text[start:end]) for kind, start, end in find_pii(text)]


def test_recall_and_precision_on_labelled_sentences(shared_data: Path) -> None:
    with lzma.open(shared_data / "filters" / "pii-synthetic.json.xz", "rt", encoding="utf-8") as file:
        rows = json.load(file)
    hit, labelled, wrong = Counter(), Counter(), Counter()
    for row in rows:
        gold = [
            Span(KINDS[span["entity_type"]], span["start_position"], span["end_position"])
            for span in row["spans"]
            if span["entity_type"] in KINDS
        ]
        ours = find_pii(row["full_text"])
        for span in gold:
            labelled[span.kind] += 1
            hit[span.kind] += any(meets(span, other) for other in ours)
        for span in ours:
            wrong[span.kind] += not any(meets(span, other) for other in gold)
    assert {kind: hit[kind] / labelled[kind] >= floor for kind, floor in FLOORS.items()} == dict.fromkeys(FLOORS, True)
    assert wrong.total() <= 0.01 * hit.total()


def meets(one: Span, other: Span) -> bool:
    return one.kind == other.kind and one.start < other.end and other.start < one.end


@pytest.mark.parametrize(
    ("kind", "piece"),
    [
        ("email", "anna.o'neill+list@mail.uni-a.ac.uk"),
        ("email", "info@xn--mnchen-3ya.xn--p1ai"),
        ("ip", "8.8.8.8"),
        ("ip", "2a00:1450:4001:81b::200e"),
        ("phone", "+44 20 7946 0958"),
        ("phone", "(212) 555-0187"),
        ("phone", "+1-541-754-3010"),
        ("phone", "0490 75 40 81"),
        ("phone", "(020) 7946 0958"),
        ("phone", "06 12 34 56 78"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("iban", "GB82WEST12345698765432"),
        ("card", "4111 1111 1111 1111"),
        ("card", "378282246310005"),
        ("key", "AKIA" + "IOSFODNN7EXAMPLE"),
        ("key", "ghp_" + "a1B2" * 9),
        ("key", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"),
        ("key", "xoxb-" + "123456789012-" * 2 + "aBcDeFgH"),
        ("key", "hooks.slack.com/services/" + "T01ABCDEF/B01ABCDEF/" + "a1B2c3D4" * 3),
        ("key", "-----BEGIN PGP PRIVATE KEY BLOCK-----\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----"),
        ("key", "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAK\n-----END RSA PRIVATE KEY-----"),
    ],
)
def test_a_piece_is_found_whole_in_a_sentence(kind: str, piece: str) -> None:
    assert found(f"Take {piece}, and no more.") == [(kind, piece)]


@pytest.mark.parametrize(
    "text",
    [
        "Write to user@example.com or git@github.com:a/b.git",
        "The decorator @property and a matrix product a@b",
        "127.0.0.1, 192.168.0.1, 10.0.0.7 and version v1.2.3.4 or 1.2.3.4.5",
        "std::vector at 12:30:45, ::1 and fe80::1",
        "4111 1111 1111 1112 has a wrong check digit, and so has GB82 WEST 1234 5698 7654 33",
        "On 2024-01-15 10:30 we took 1234567 samples of 3.14159265358979",
        "array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])",
        "id 1700000000000 and hash d41d8cd98f00b204e9800998ecf8427e",
        "api_key = get_the_secret_key_from_somewhere()",
        "token = /usr/share/lib64/python3/dist-packages and token: utf8_decode_error_handler_2",
        "checksum = 9f86d081884c7d659a2feaa0c55ad015",
        "0000020 064 145 154 154 157 040 167 157",
        "0.123 456 7890 and 012345",
        "from -2147483648 to +2147483647, +1234567890 and +2147483392",
        "Section 3.1.3.2, version 2.7.2.2, § 2.2.24.1 and release 7.4.7.1",
    ],
)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert found(text) == []


def test_a_number_after_a_cue_is_a_telephone_number() -> None:
    assert found("Phone:\n490 75 40 81") == [("phone", "490 75 40 81")]
    assert found("Room 490 75 40 81") == []


@pytest.mark.parametrize(
    "line",
    [
        'api_key="{}"',
        "API-KEY: {}",
        "aws_secret_access_key = {}",
        '{{"client_secret": "{}"}}',
        "Authorization: Bearer {}",
        "export SESSION_TOKEN='{}'",
        "password={}",
    ],
)
@pytest.mark.parametrize("value", ["wJalrXUtnFEMI7K3MDENGbPxRfiCYz9Q", "9f86d081884c7d659a2feaa0c55ad015"])
def test_a_random_value_of_a_secret_name_is_a_key(line: str, value: str) -> None:
    assert found(line.format(value)) == [("key", value)]


def test_random_values_of_any_seed_are_taken_for_keys() -> None:
    chooser = random.Random(0)
    for alphabet in (string.hexdigits[:16], string.ascii_letters + string.digits):
        values = ["".join(chooser.choices(alphabet, k=chooser.randint(16, 64))) for _ in range(2000)]
        assert sum(map(is_random, values)) >= 0.95 * len(values)


def test_no_personal_data_is_shown_or_written_by_annotate_and_filter(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    pieces = ["canary.person@mail.uni-a.ac.uk", "4111 1111 1111 1111", "460-89-9847", "ghp_" + "a1B2" * 9, "8.8.4.4"]
    prose = "The committee met in the morning and we discussed the budget of the library for the year. "
    source = write_parts(tmp_path / "in", [[prose * 4 + f"It was sent to {piece} with thanks. " for piece in pieces]])
    caplog.set_level("DEBUG")
    annotate(AnnotateConfig(workers=2), documents=source, out=tmp_path / "scored")
    open_rules = FilterConfig.model_validate(
        {
            "gopher": {"min_words": 0},
            "repetition": dict.fromkeys(RepetitionRules.model_fields, 1),
            "fineweb": {"min_punctuated_line_ratio": 0},
        }
    )
    metrics = filter_stage(open_rules, documents=tmp_path / "scored" / "documents", out=tmp_path / "kept")
    assert metrics["kept"] == len(pieces)
    assert sum(value for name, value in metrics.items() if name.startswith("pii.")) == len(pieces)
    told = capfd.readouterr()
    texts = [document.text for document in read_documents(tmp_path / "kept" / "documents")]
    logged = "".join(
        path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.suffix in (".log", ".json")
    )
    for piece in pieces:
        assert piece not in told.out + told.err + caplog.text + logged
        assert not any(piece in text for text in texts)
    assert [text.count("<") for text in texts] == [1] * len(pieces)


def test_pieces_that_overlap_become_one() -> None:
    spans = find_pii("api_key=ghp_" + "a1B2" * 9 + "@mail.org")
    assert all(before.end <= after.start for before, after in pairwise(spans))


@given(st.lists(st.sampled_from(["a@b.org", "8.8.8.8", "(212) 555-0187", "4111111111111111", "word", "\n", "é😀"])))
def test_replacing_keeps_all_other_text_and_says_where_the_placeholders_stand(pieces: list[str]) -> None:
    text = " ".join(pieces)
    spans = find_pii(text)
    replaced, placed = replace_pii(text, spans)
    assert [replaced[start:end] for _, start, end in placed] == [f"<{kind.upper()}>" for kind, _, _ in spans]
    assert outside(text, spans) == outside(replaced, placed)
    assert find_pii(replaced) == []


def outside(text: str, spans: list[Span]) -> list[str]:
    edges = [0, *(edge for span in spans for edge in span[1:]), len(text)]
    return [text[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]


@given(st.text(alphabet="a1@.:-+() GBe/=_", max_size=300))
def test_spans_lie_apart_inside_the_text(text: str) -> None:
    ends = 0
    for kind, start, end in find_pii(text):
        assert kind in FINDERS
        assert ends <= start < end <= len(text)
        ends = end


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "1",
        "@",
        "a@",
        "a.",
        "1.",
        "1 ",
        "1-",
        ":",
        "a:",
        "+1",
        "(1",
        "AB12",
        "eyJ",
        "eyJa.",
        "-----BEGIN ",
        "=a1",
        "a@b.",
        "-eyJ",
        "-eyJ" + "a" * 20,
        "token=a1",
        "1 2 3 4 ",
        "A1 ",
        "AB 12 34 ",
        "SSN 123 45 ",
        "0800 12 34 ",
    ],
)
def test_hostile_text_of_any_size_is_read_to_its_end(unit: str) -> None:
    text = unit * (300_000 // len(unit)) + " a@b.org"  # a quadratic pattern would need hours
    assert find_pii(text)[-1] == Span("email", len(text) - 7, len(text))


def test_check_digits() -> None:
    assert is_card("4111111111111111")
    assert not is_card("4111111111111112")
    assert not is_card("9111111111111117")
    assert is_iban("NO9386011117947")
    assert not is_iban("NO9386011117948")
    assert not is_iban("XX9386011117947")
