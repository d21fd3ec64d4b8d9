"""Run benchmarks and put their figures into docs/benchmarks.md: `python benchmarks/table.py [NAME...]`, default all.

Each script has a table between two marks on that page; what is written around it stays. A script whose claims do not
all hold is written down as it is, and the exit status is 1.
"""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"


def measured(name: str) -> dict[str, Any]:
    """Return the last line of a script's output, its progress passed on; raise CalledProcessError where it has none."""
    print(f"benchmark: {name}", flush=True)
    done = subprocess.run([sys.executable, str(HERE / f"{name}.py")], stdout=subprocess.PIPE, text=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode not in (0, 1) or not lines or not lines[-1].startswith('{"name"'):
        raise subprocess.CalledProcessError(done.returncode, done.args)
    print("\n".join(lines), flush=True)
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def as_table(result: dict[str, Any]) -> str:
    """Return the claims as a table."""
    rows = ["| claim | ours | peer | ratio | target | holds |", "|---|---|---|---|---|---|"]
    for claim in result["claims"]:
        figures = (_figure(claim[name]) for name in ("ours", "peer", "ratio", "target"))
        rows.append(f"| {claim['what']} | {' | '.join(figures)} | {'yes' if claim['ok'] else '**no**'} |")
    return "\n".join(rows)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.4g}"


def placed(page: str, name: str, table: str) -> str:
    """Return the page with the table between the marks of `name`; a new section stands at the end."""
    date = datetime.now(UTC).date().isoformat()
    section = f"<!-- {name} -->\nMeasured {date}:\n\n{table}\n<!-- end of {name} -->"
    pattern = re.compile(rf"<!-- {name} -->.*?<!-- end of {name} -->", re.DOTALL)
    if pattern.search(page):
        return pattern.sub(lambda _: section, page)
    return f"{page.rstrip()}\n\n## {name}\n\n{section}\n"


def main(names: list[str]) -> int:
    """Run the scripts, rewrite the page after each, and return 0 when all claims hold."""
    holds = True
    for name in names or sorted({path.stem for path in HERE.glob("*.py")} - {"table"}):
        result = measured(name)
        PAGE.write_text(placed(PAGE.read_text(), name, as_table(result)))
        holds = holds and all(claim["ok"] for claim in result["claims"])
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
