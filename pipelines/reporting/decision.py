"""A decision of the registry as markdown: what was decided, and a row a gate."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.artifacts.records import Gate, Record


def decision_markdown(record: Record) -> str:
    """Return the page of one record."""
    lines = [
        f"# {record.action.replace('-', ' ').capitalize()}: package/{record.model.key[:12]}",
        "",
        f"Record {record.number}, `registry/history/{record.file}`.",
    ]
    if record.restores is not None:
        lines.append(f"It brings back the model of record {record.restores}.")
    if record.stop:
        lines += ["", f"**{record.stop.gate}**: {record.stop.says}", *_drift(record.stop.evidence.get("measures", []))]
    if record.decision is None:
        return "\n".join(lines)
    champion = record.decision.champion
    lines += [
        "",
        f"Against package/{champion.key[:12]}." if champion else "The first: there was nothing to compare with.",
        "",
        "| gate | passed | figure | bound | what it says |",
        "|---|---|---:|---:|---|",
        *(_row(gate) for gate in sorted(record.decision.gates, key=lambda gate: gate.passed)),
    ]
    return "\n".join(lines)


def _drift(measures: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table of how new documents differ from the old ones, a row a measure; nothing where none was taken."""
    if not measures:
        return []
    return [
        "",
        "| measure | drifted | effect | at most | p | test |",
        "|---|---|---:|---:|---:|---|",
        *(
            f"| {row['measure']} | {'**' + row['on_drift'] + '**' if row['drifted'] else 'no'} | {row['effect']:.4g} "
            f"| {row['max_effect']:g} | {row['p']:.2g} | {row['test']} |"
            for row in measures
        ),
    ]


def _row(gate: Gate) -> str:
    figure, bound = (f"{value:,.4g}" if value is not None else "" for value in (gate.figure, gate.bound))
    passed = "yes" if gate.passed else "**no**"
    says = gate.says.replace("|", "\\|")
    return f"| {gate.name} | {passed} | {figure} | {bound} | {says} |"
