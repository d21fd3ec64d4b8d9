"""The data card: where the text came from, what each stage dropped and why, and what was kept out of it."""

from pipelines.artifacts.manifest import Manifest
from pipelines.reporting.card_tables import flattened, settings, table
from pipelines.reporting.gather import funnel

SOURCES = ("examples", "ingest")
MADE_OF_TEXT = ("tokenizer", "shard")


def data_card(manifests: list[Manifest], *, language: str, licence: str) -> str:
    """Return the card as markdown, from the manifests' settings, pins and counts alone."""
    stated = "unknown; no stage of this run recorded one" if licence == "unknown" else licence
    sections = [
        "# Data card",
        f"The text that the model beside this card was trained, tuned and measured on. Language: {language}.",
        _sources(manifests),
        f"## Licences\n\nOf the sources: {stated}. Every document keeps its address, crawl time and record digest in "
        "the store, so that a licence or a takedown can be traced to it.",
        _funnel(manifests),
        _decontamination(manifests),
        _figures(manifests),
        _content(manifests),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _sources(manifests: list[Manifest]) -> str:
    parts = ["## Sources"]
    for manifest in manifests:
        if manifest.stage in SOURCES or manifest.roots:
            pins = [[name, f"`{pin}`"] for name, pin in sorted(manifest.roots.items())]
            rows = [[name, value] for name, value in flattened(manifest.identity)]
            parts += [f"### `{manifest.stage}`", table(["setting", "value"], rows)]
            parts += [table(["read from outside", "content"], pins)] if pins else []
    return "\n\n".join(parts)


def _funnel(manifests: list[Manifest]) -> str:
    rows = [
        [
            row["stage"],
            f"{row['in']:,}",
            f"{row['kept']:,}",
            ", ".join(f"{reason} {count:,}" for reason, count in sorted(row["dropped"].items())) or "none",
        ]
        for row in funnel(manifests)
    ]
    details = [settings(manifest) for manifest in manifests if manifest.stage == "filter"]
    return "\n\n".join(["## From crawl to corpus", table(["stage", "in", "kept", "dropped"], rows), *details])


def _decontamination(manifests: list[Manifest]) -> str:
    found = [manifest for manifest in manifests if manifest.stage == "decontaminate"]
    if not found:
        return "## Decontamination\n\nThe corpus was not compared with any evaluation set."
    parts = [
        "## Decontamination",
        "Documents that hold an item of an evaluation set of this run, as it is or edited, were dropped.",
    ]
    for manifest in found:
        figures = [[name, f"{value:,.6g}"] for name, value in sorted(manifest.metrics.items())]
        parts += [table(["figure", "value"], figures), settings(manifest)]
    return "\n\n".join(parts)


def _figures(manifests: list[Manifest]) -> str:
    rows = [
        [manifest.stage, name, f"{value:,.6g}"]
        for manifest in manifests
        if manifest.stage in MADE_OF_TEXT
        for name, value in sorted(manifest.metrics.items())
    ]
    return "## Tokens\n\n" + table(["stage", "figure", "value"], rows) if rows else ""


def _content(manifests: list[Manifest]) -> str:
    stages = {manifest.stage for manifest in manifests}
    if not {"annotate", "filter"} <= stages:
        return "## Personal and harmful content\n\nThe text was not searched for either."
    return (
        "## Personal and harmful content\n\nThe `annotate` stage looks for personal data by pattern and for toxicity "
        "by word list and a small classifier; `filter` replaces or drops what it found, by the settings above. Both "
        "miss some and mistake some."
    )
