"""How a config shows in a form: titles in words, bounds that are said, and choices instead of free text."""

import re
from typing import Any

from pydantic.fields import ComputedFieldInfo, FieldInfo

WORDS = {
    **{name: name.upper() for name in ("c4", "cpu", "dpo", "ema", "epub", "gb", "grpo", "html", "int4", "int8", "pdf")},
    **{name: name.upper() for name in ("pii", "sft", "uri", "url")},
    **{name: name.capitalize() for name in ("gopher", "ray", "slurm")},
    **{"char": "character", "chars": "characters", "cpus": "CPUs", "urls": "URLs", "lora": "LoRA"},
    **{"ce": "cross-entropy", "dtype": "data type", "lr": "learning rate", "ngram": "n-gram", "heldout": "held-out"},
    **{"fineweb": "FineWeb", "javascript": "JavaScript", "sbatch": "sbatch options", "venv": "virtual environment"},
    **{"vocab": "vocabulary"},
}
"""How a word of a field's name is written, where that is not the word itself."""
KINDS = {
    **{"integer": "Number", "number": "Number", "string": "Text", "boolean": "Yes or no", "null": "None"},
    **{"array": "List", "object": "Fields"},
}
"""What a form calls one of several types that a field takes."""


def title_of(name: str, field: FieldInfo | ComputedFieldInfo) -> str:
    """Return `First wait (seconds)` for `first_wait_seconds`: terms spelled out and a unit set apart."""
    text = " ".join(WORDS.get(word, word) for word in name.split("_"))
    text = re.sub(r"(?<=\d) gram\b", "-gram", text)
    text = re.sub(r"(?<=.) (seconds|minutes|GB)$", r" (\1)", text)
    return text[:1].upper() + text[1:]


def said_in_full(field: dict[str, Any]) -> None:
    """Change a field's JSON schema in place, to one that a form shows as a person would write it.

    A constant becomes a choice of one, as a form knows no constants; types of a union are named; the description ends
    in the bounds, of which a form otherwise tells only him who has passed them.
    """
    if "const" in field:
        field["enum"] = [field.pop("const")]
    kinds = field.get("anyOf", [])
    for kind in kinds:
        if "$ref" not in kind:
            kind.setdefault("title", "Path" if kind.get("format") == "path" else KINDS[kind["type"]])
    said = next((text for kind in (field, *kinds) if (text := bounds(kind))), "")
    if "description" in field:
        field["description"] = field["description"].rstrip(".") + (f" ({said})." if said else ".")


def bounds(schema: dict[str, Any]) -> str:
    """Return `1 to 64`, `above 0, at most 1` or `at least 8`; an empty text for a schema without bounds."""
    if schema.get("type") not in ("integer", "number"):
        return ""
    whole = schema["type"] == "integer"
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if whole:  # beyond 0 is from 1 on
        low, above = (above + 1, None) if above is not None else (low, None)
        high, below = (below - 1, None) if below is not None else (high, None)
    if low is not None and high is not None:
        return f"{low:,} to {high:,}"
    words = {"at least": low, "above": above, "at most": high, "below": below}
    return ", ".join(f"{word} {value:,}" for word, value in words.items() if value is not None)
