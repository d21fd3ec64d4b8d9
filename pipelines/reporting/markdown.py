"""The run report as markdown for the Prefect UI: the stage table, the funnel and the plots as data URLs."""

from collections.abc import Sequence

from pipelines.artifacts.run import NodeResult


def run_markdown(product: str, results: Sequence[NodeResult]) -> str:
    """Return the report of a finished run."""
    lines = [f"# {product}", "", "| node | state | seconds | key | figures |", "|---|---|---:|---|---|"]
    for result in results:
        figures = ", ".join(
            f"{name} {value:,.4g}" for name, value in result.manifest.metrics.items() if "." not in name
        )
        state = "hit" if result.hit else "built"
        lines.append(f"| {result.node} | {state} | {result.seconds:.1f} | `{result.manifest.key[:12]}` | {figures} |")
    for result in results:
        plots = result.path / "log" / "report.md"
        if result.manifest.stage == "report" and plots.is_file():
            lines += ["", plots.read_text(), "", f"Whole report: `{result.path / 'log' / 'report.html'}`"]
    return "\n".join(lines)
