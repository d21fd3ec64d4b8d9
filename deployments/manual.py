"""The manual of the command line, made of what `--help` says; `python -m deployments.manual` writes docs/cli.md."""

import io
from pathlib import Path

from cyclopts import App
from rich.console import Console

from deployments.cli import app

MANUAL = Path(__file__).resolve().parents[1] / "docs" / "cli.md"


def manual() -> str:
    """Return a section a command with its help, as a terminal of 100 columns shows it."""
    sections = [
        f"## gristmill {name}".rstrip() + f"\n\n```text\n{help_of(name.split())}```\n" for name in ("", *commands(app))
    ]
    return "\n".join(["# The command line\n", "Made of `gristmill COMMAND --help` by `make readme`.\n", *sections])


def commands(parent: App, prefix: str = "") -> list[str]:
    """Return the names of all commands, those of groups with the group's name before them."""
    found = []
    for name in parent:
        if not name.startswith("-"):
            found += [f"{prefix}{name}", *commands(parent[name], f"{prefix}{name} ")]
    return found


def help_of(tokens: list[str]) -> str:
    """Return the help of one command."""
    text = io.StringIO()
    app.help_print(tokens, console=Console(file=text, width=100, force_terminal=False, color_system=None))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


if __name__ == "__main__":
    MANUAL.write_text(manual())
