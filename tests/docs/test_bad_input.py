"""The table of bad input names tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = re.findall(
    r"^\| (.+) \| (.+) \| `(tests/\S+\.py)::(test_\w+)` \|$", (ROOT / "docs" / "bad-input.md").read_text(), re.M
)


def test_every_row_of_the_table_is_read() -> None:
    table = [line for line in (ROOT / "docs" / "bad-input.md").read_text().splitlines() if line.startswith("| ")]
    assert len(ROWS) == len(table) - 1 >= 70


@pytest.mark.parametrize(("file", "name"), sorted({row[2:] for row in ROWS}))
def test_a_row_is_proved_by_a_test_that_exists(file: str, name: str) -> None:
    assert re.search(rf"^(?:async )?def {name}\(", (ROOT / file).read_text(), re.M), f"{file} has no {name}"
