"""The README's file tree, made of the first sentence of every module; `make readme` writes it anew."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("deployments", "flows", "tasks", "pipelines")
BLOCK = re.compile(r"(<!-- tree -->\n```\n).*?(```\n<!-- /tree -->)", re.DOTALL)


def sentence(path: Path) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0].rstrip(".")


def tree() -> str:
    """Return a line a file, folders first named by their own sentence."""
    lines = []
    for room in ROOMS:
        for folder in sorted({path.parent for path in (ROOT / room).rglob("*.py")}):
            depth = len(folder.relative_to(ROOT).parts) - 1
            lines.append(f"{'  ' * depth}{folder.name + '/':<{30 - 2 * depth}}{sentence(folder / '__init__.py')}")
            lines += [
                f"{'  ' * (depth + 1)}{path.name:<{28 - 2 * depth}}{sentence(path)}"
                for path in sorted(folder.glob("*.py"))
                if path.stem != "__init__"
            ]
    return "\n".join(lines) + "\n"


def updated(readme: str) -> str:
    """Return the README with its tree made anew."""
    return BLOCK.sub(lambda found: found[1] + tree() + found[2], readme)


if __name__ == "__main__":
    (ROOT / "README.md").write_text(updated((ROOT / "README.md").read_text()))
