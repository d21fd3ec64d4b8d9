"""A decision of the registry as markdown: what was decided, and a row a gate."""

from pipelines.artifacts.registry import Gate, Record


def decision_markdown(record: Record) -> str:
    """Return the page of one record."""
    lines = [
        f"# {record.action.replace('-', ' ').capitalize()}: package/{record.model.key[:12]}",
        "",
        f"Record {record.number}, `registry/history/{record.file}`.",
    ]
    if record.restores is not None:
        lines.append(f"It brings back the model of record {record.restores}.")
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


def _row(gate: Gate) -> str:
    figure, bound = (f"{value:,.4g}" if value is not None else "" for value in (gate.figure, gate.bound))
    passed = "yes" if gate.passed else "**no**"
    says = gate.says.replace("|", "\\|")
    return f"| {gate.name} | {passed} | {figure} | {bound} | {says} |"
