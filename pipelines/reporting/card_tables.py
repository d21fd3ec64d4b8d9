"""Markdown tables of the cards."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.artifacts.manifest import Manifest

MAX_CELL = 200


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    """Return the text on one line, its bars escaped, and cut where it is very long."""
    flat = " ".join(text.split()).replace("|", "\\|")
    return flat if len(flat) <= MAX_CELL else f"{flat[: MAX_CELL - 1]}…"


def settings(manifest: Manifest) -> str:
    """Return the settings that decided an artifact, folded away."""
    rows = [[name, value] for name, value in flattened(manifest.identity)]
    if not rows:
        return ""
    return f"<details><summary>Settings</summary>\n\n{table(['setting', 'value'], rows)}\n\n</details>"


def flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted names and values of nested settings, sorted."""
    for name, value in sorted(settings.items()):
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def whole_key(manifest: Manifest) -> str:
    """Return the artifact's key, shortened to what tells artifacts apart."""
    return manifest.key[:16]
