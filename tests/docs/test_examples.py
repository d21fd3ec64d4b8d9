"""The examples of the docs run as they stand."""

import json
import re
from pathlib import Path

import pytest

from deployments.manual import manual

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_manual_says_what_help_says() -> None:
    assert (DOCS / "cli.md").read_text() == manual(), "docs/cli.md is old; make readme"


def run_cells(cells: list[str], where: str) -> None:
    space: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"{where}, cell {number}", "exec"), space)  # noqa: S102 - our own documentation


def test_the_page_on_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), re.DOTALL)
    assert len(cells) == 4
    run_cells(cells, "python.md")
    assert "dedup built" in capsys.readouterr().out


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((DOCS / "notebook.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 4
    run_cells(cells, "notebook.ipynb")
    assert capsys.readouterr().out
