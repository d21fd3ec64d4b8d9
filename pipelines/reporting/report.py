"""The run report: one self-contained HTML file, and the same facts as JSON."""

from pathlib import Path

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import Metrics, Stage, StageConfig


class ReportConfig(StageConfig):
    """What the report shows."""

    model_config = ConfigDict(title="Report")
    title: str = Field("Gristmill run", min_length=1, max_length=120, description="The heading of the report.")
    dropped: int = Field(2, ge=0, le=50, description="How many documents are shown of each reason to drop one.")
    samples: int = Field(4, ge=0, le=50, description="How many samples of each model's text are shown.")


def report(config: ReportConfig, *, out: Path, **inputs: Path) -> Metrics:
    """Write `report/report.json`, which depends on the inputs alone, and `log/report.html`, which adds timings."""
    from pipelines.reporting.gather import facts_of
    from pipelines.reporting.html import write_html

    facts = facts_of(config, inputs)
    write_html(facts, inputs, out)
    return {"stages": float(len(facts["lineage"])), "scores": float(len(facts["scores"]))}


REPORT = Stage("report", version=3, run=report, libraries=("Jinja2", "matplotlib", "pyarrow"), lineage=True)
