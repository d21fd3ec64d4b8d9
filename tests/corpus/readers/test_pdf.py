"""PDF: the text layer as flowing text, in a child process, or a counted reason."""

import random
from pathlib import Path

import pytest

from pipelines.corpus.readers.pdf import flowing, pdf_record, pdf_time
from pipelines.corpus.readers.records import Dropped, Limits, Record
from tests.corpus.sources_bench import LIMITS, shown, write_pdf

WORDS = tuple(enumerate(("corn", "rye", "oats", "wheat", "maize"), 1))
LINES = [
    "The miller ground the corn of the whole valley, and no one asked",
    "him what the river thought of it, nor what became of the flour.",
    "It ended.",
    "Another paragraph begins here and goes on to the end of this line",
    "and it says that naïve cafés are 20% dearer than they ought to be.",
]


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pdf") / "paper.pdf"
    pages = [[f"Journal of Mills, page {number}", *LINES, f"{word} is said here only"] for number, word in WORDS]
    write_pdf(path, pages)
    return path


def test_the_lines_of_a_paper_flow_and_its_running_titles_are_gone(paper: Path) -> None:
    record = pdf_record(paper, 100, 20, LIMITS)
    assert isinstance(record, Record)
    assert "no one asked him what the river thought of it, nor what became of the flour. It ended.\n" in record.content
    assert "naïve cafés are 20% dearer" in record.content
    assert "Journal of Mills" not in record.content
    assert "rye is said here only" in record.content


def test_the_limits_of_pages_and_bytes_are_kept(paper: Path) -> None:
    small = Limits(record=1_000, page=1_000)
    assert shown([pdf_record(paper, 4, 20, LIMITS), pdf_record(paper, 9, 20, small)]) == ["too_many_pages", "too_large"]


def object_file(*bodies: bytes, trailer: bytes = b"") -> bytes:
    """Return a PDF of these objects, the first of them its catalogue."""
    found = b"%PDF-1.7\n"
    places = []
    for number, body in enumerate(bodies, 1):
        places.append(len(found))
        found += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(bodies) + 1
    end = b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n"
    return found + end % (size, table, size, trailer, len(found))


PAGES = (b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>")
BLANK = object_file(*PAGES, b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>")
LOCKED = object_file(
    *PAGES,
    b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>",
    b"<</Filter/Standard/V 2/R 3/Length 128/P -4/O<" + b"28" * 32 + b">/U<" + b"13" * 32 + b">>>",
    trailer=b"/Encrypt 4 0 R/ID[<" + b"ab" * 16 + b"><" + b"ab" * 16 + b">]",
)
ENDLESS = object_file(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[2 0 R]/Count 1>>")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty_file"),
        (b"<html>a page that is called a paper</html>", "mislabelled"),
        (b"%PDF-1.7\n" + b"no object follows " * 100, "damaged"),
        (BLANK, "no_text"),
        (LOCKED, "encrypted"),
        (ENDLESS, "damaged"),
    ],
    ids=["empty", "html", "garbage", "blank", "locked", "its own child"],
)
def test_what_has_no_text_to_read_has_a_reason(tmp_path: Path, body: bytes, reason: str) -> None:
    (tmp_path / "a.pdf").write_bytes(body)
    assert pdf_record(tmp_path / "a.pdf", 100, 20, LIMITS) == Dropped(0, reason)


def test_a_page_that_takes_for_ever_is_given_up_and_the_next_file_is_read(tmp_path: Path, paper: Path) -> None:
    forms = [
        b"<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X %d 0 R>>>>/Length %d>>stream\n%s"
        b"\nendstream" % (number + 1, 6 * 40, b"/X Do " * 40)
        for number in range(5, 14)
    ]
    last = b"<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Length 9>>stream\n0 0 m 1 1\nendstream"
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Resources<</XObject<</X 5 0 R>>>>/Contents 4 0 R>>"
    body = object_file(*PAGES, page, b"<</Length 6>>stream\n/X Do \nendstream", *forms, last)
    (tmp_path / "a.pdf").write_bytes(body)
    assert pdf_record(tmp_path / "a.pdf", 100, 1, LIMITS) == Dropped(0, "too_slow")
    assert isinstance(pdf_record(paper, 100, 1, LIMITS), Record)


def test_bytes_that_were_changed_or_cut_never_end_in_a_traceback(tmp_path: Path, paper: Path) -> None:
    whole, rng = paper.read_bytes(), random.Random(7)
    for _ in range(60):
        body = bytearray(whole)
        for _ in range(rng.randrange(1, 60)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        (tmp_path / "b.pdf").write_bytes(body[: rng.randrange(len(body) // 2, 2 * len(body))])
        assert isinstance(pdf_record(tmp_path / "b.pdf", 100, 5, LIMITS), Record | Dropped)


@pytest.mark.parametrize(
    ("date", "moment"),
    [
        ("D:20220429171908Z", "2022-04-29T17:19:08Z"),
        ("D:20220429171908+02'00'", "2022-04-29T15:19:08Z"),
        ("D:1999", "1999-01-01T00:00:00Z"),
        ("D:20229999", ""),
        ("yesterday", ""),
        ("", ""),
    ],
)
def test_a_date_of_pdf_is_a_moment_or_nothing(date: str, moment: str) -> None:
    assert pdf_time(date) == moment


def test_divided_words_are_whole_and_items_of_a_list_stay_apart() -> None:
    page = (
        "the end of this long line divides a num\x02ber\r\nand goes on in the next line of it all\r\n"
        "• one thing that is as long as the lines\r\n• two\r\n"
    )
    assert flowing([page]) == (
        "the end of this long line divides a number and goes on in the next line of it all\n"
        "• one thing that is as long as the lines\n• two"
    )
