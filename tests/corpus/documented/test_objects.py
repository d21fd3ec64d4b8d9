"""Documented objects are read as syntax trees, and nothing of a package runs."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.artifacts.errors import UserError
from pipelines.corpus.documented.objects import DocObject, Usable, module_name, read_objects
from pipelines.corpus.documented.packages import package_files
from pipelines.corpus.documented.prose import fault, plain, summary

USABLE = Usable(min_words=4, max_chars=240)

SOURCE = '''
"""Shapes
======

Tools that draw shapes on a page."""
raise SystemExit("a package's code must never run")

class Circle:
    """A round thing with one radius and no corners.

    More words."""

    def __init__(self, radius, *, fill=None):
        """Make a circle of the given radius here."""

    def area(self, unit="cm", /, *rest, scale=1 + 1, **options):
        """Return the surface that the circle covers."""

    @property
    def radius(self):
        """The distance from the middle to the edge."""

    @radius.setter
    def radius(self, value):
        """Set the distance from the middle to the edge."""

    def _secret(self):
        """Return what nobody outside may ever see."""

class _Hidden:
    """A class that nobody outside may use."""

    def shown(self):
        """Return something of a class that is hidden."""

if True:
    def draw(shape):
        """Draw the shape on the current page.

        >>> draw(Circle(2))
        """
        def inner():
            """Return something that belongs to the body."""
else:
    async def fetch(url):
        """Short one."""

def bare():
    return "\\d"
'''


def read(tmp_path: Path, source: str | bytes, counts: Counter[str] | None = None) -> list[DocObject]:
    path = tmp_path / "shapes.py"
    path.write_bytes(source.encode() if isinstance(source, str) else source)
    return read_objects("shapes", "shapes.py", path, USABLE, Counter() if counts is None else counts)


def test_public_objects_are_found_with_kind_page_and_signature(tmp_path: Path) -> None:
    found = {item.name: item for item in read(tmp_path, SOURCE)}
    assert {name: item.kind for name, item in found.items()} == {
        "shapes": "module",
        "shapes.Circle": "class",
        "shapes.Circle.area": "method",
        "shapes.Circle.radius": "method",
        "shapes.draw": "function",
    }
    assert found["shapes.Circle"].signature == "Circle(radius, *, fill=None)"
    assert found["shapes.Circle.area"].signature == "Circle.area(unit='cm', *rest, scale=1 + 1, **options)"
    assert found["shapes.Circle.radius"].signature == "Circle.radius"
    assert found["shapes.Circle.area"].page == found["shapes.Circle"].page == "shapes.Circle"
    assert found["shapes.draw"].page == "shapes"
    assert found["shapes"].summary == "Tools that draw shapes on a page."
    assert found["shapes.draw"].summary == "Draw the shape on the current page."


def test_every_documented_object_is_kept_or_dropped_with_a_reason(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    kept = read(tmp_path, SOURCE, counts)
    assert counts["in"] == 11
    assert counts["in"] == len(kept) + sum(count for name, count in counts.items() if name.startswith("dropped."))
    assert counts["dropped.private"] == 4
    assert counts["dropped.same_name"] == 1
    assert counts["dropped.short_summary"] == 1


@pytest.mark.parametrize("source", [b"def (", b"\0", b'x = "\xff"', b"# coding: nonsense\n", b"(" * 5000 + b")" * 5000])
def test_a_file_that_does_not_parse_is_counted(tmp_path: Path, source: bytes) -> None:
    counts: Counter[str] = Counter()
    assert read(tmp_path, source, counts) == []
    assert counts == {"files_unparsed": 1}


def test_a_lone_surrogate_is_dropped_with_a_reason(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    assert read(tmp_path, '"""Return the text \\ud800 of the page."""', counts) == []
    assert counts["dropped.surrogate"] == 1


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Return :class:`~a.b.Foo` of ``x``.\n\nMore.", "Return Foo of x."),
        ("Get the mean, e.g. of rows. Then stop.", "Get the mean, e.g. of rows."),
        ("foo(x, y) -> int\n\nAdd *both* numbers to **one**.", "Add both numbers to one."),
        ("!!! note\n    Read this.\n\nCompute `the sum`_ of |all| rows.", "Compute the sum of all rows."),
        ("Load [`Model`] from [the hub](https://x.y).", "Load Model from the hub."),
        ("Call f(*args, **kwargs) with 2 * 3 * 4.", "Call f(*args, **kwargs) with 2 * 3 * 4."),
        ("Parameters\n----------\nx : int\n", ""),
        (":param x: the number", ""),
        (">>> f()\n3", ""),
        ("", ""),
    ],
)
def test_a_summary_is_the_first_sentence_without_markup(docstring: str, expected: str) -> None:
    assert summary(docstring) == expected


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("", "no_summary"),
        ("Too short.", "short_summary"),
        ("same same same same same", "short_summary"),
        ("word and more " * 40, "long_summary"),
        ("Return the %(name)s of the page.", "template"),
        ("a = b + c * d / (e - f) ** 2 # ok", "no_prose"),
        ("Return the name of the page.", ""),
    ],
)
def test_a_summary_that_cannot_be_an_answer_has_a_reason(sentence: str, reason: str) -> None:
    assert fault(sentence, 4, 240) == reason


@given(st.text(max_size=200))
def test_any_docstring_gives_one_plain_line(docstring: str) -> None:
    assert plain(docstring) == " ".join(plain(docstring).split())
    assert "\n" not in summary(docstring)


def test_modules_are_named_by_their_files() -> None:
    assert module_name("numpy/linalg/__init__.py") == "numpy.linalg"
    assert module_name("json/decoder.py") == "json.decoder"


def test_the_standard_library_is_a_package_without_its_tests() -> None:
    files = package_files(["python"])["python"]
    assert "json/decoder.py" in files
    assert not [name for name in files if "test" in name.split("/")]


def test_reading_a_package_imports_nothing_of_it() -> None:
    before = set(sys.modules)
    counts: Counter[str] = Counter()
    for name, path in package_files(["python"])["python"].items():
        if name.startswith(("xmlrpc/", "wsgiref/")):
            read_objects("python", name, path, USABLE, counts)
    assert counts["files"] > 5
    assert not {name for name in set(sys.modules) - before if name.startswith(("xmlrpc", "wsgiref"))}


def test_a_package_that_is_not_installed_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"source\.packages: 'pydantics' is not installed; did you mean 'pydantic'\?"):
        package_files(["Pydantics"])
    with pytest.raises(UserError, match="'qqqqqqqqq' is not installed; install it or name another"):
        package_files(["qqqqqqqqq"])


def test_a_package_without_python_source_is_refused() -> None:
    with pytest.raises(UserError, match="'types-pyyaml' has no Python source"):
        package_files(["types-PyYAML"])
