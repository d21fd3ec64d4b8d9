"""The report as one HTML file: no script, no request, every plot inside."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from matplotlib.figure import Figure

from pipelines.artifacts.manifest import Manifest
from pipelines.artifacts.work import atomic_file
from pipelines.planning.scoring import Score, scores
from pipelines.reporting.gather import logs_of, manifests_of
from pipelines.reporting.plots import (
    as_data_url,
    as_svg,
    cluster_plot,
    course_plot,
    curve_plot,
    funnel_plot,
    meeting_plot,
    score_plot,
    sentiment_plot,
)


def write_html(facts: dict[str, Any], inputs: Mapping[str, Path], out: Path) -> None:
    """Write `report/report.json`, and below `log/` the page and the plots for the Prefect UI."""
    with atomic_file(out / "report" / "report.json", out) as fresh:
        fresh.write_text(json.dumps(facts, indent=1, sort_keys=True))
    with atomic_file(out / "log" / "report.html", out) as fresh:
        manifests = manifests_of(inputs)
        predicted = scores(next(iter(inputs.values())).parents[2], manifests)
        fresh.write_text(render(facts, manifests, logs_of(inputs), predicted), encoding="utf-8")
    with atomic_file(out / "log" / "report.md", out) as fresh:
        fresh.write_text(plots_markdown(facts))


def plots_markdown(facts: dict[str, Any]) -> str:
    """Return the plots as markdown images; drawn once, when the report is built, so that a hit shows them at once."""
    images = [("crawl to documents", funnel_plot(facts["funnel"]))] if facts["funnel"] else []
    images += [("chance to be compared", meeting_plot(facts["duplicates"]))] if facts["duplicates"] else []
    images += [("scores", score_plot(facts["scores"]))] if facts["scores"] else []
    images += [(f"{name} loss", curve_plot(name, curve)) for name, curve in facts["curves"].items()]
    return "\n\n".join(f"![{title}]({as_data_url(figure)})" for title, figure in images)


def render(
    facts: dict[str, Any],
    manifests: list[Manifest],
    logs: Mapping[str, list[dict[str, Any]]] | None = None,
    predicted: Sequence[Score] = (),
) -> str:
    """Return the page; text of documents and models is escaped.

    `logs` holds the stages' logs of rates, `predicted` what plans have foretold of them.
    """
    environment = Environment(
        loader=PackageLoader("pipelines.reporting", ""),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
    )
    environment.filters["figures"] = figures
    environment.filters["by_year"] = by_year
    groups = facts["audit"].get("groups", {})
    plots = {
        "audit": _svg(sentiment_plot(groups)) if groups.get("rows") else "",
        "funnel": _svg(funnel_plot(facts["funnel"])) if facts["funnel"] else "",
        "duplicates": [_svg(draw(facts["duplicates"])) for draw in (meeting_plot, cluster_plot) if facts["duplicates"]],
        "scores": _svg(score_plot(facts["scores"])) if facts["scores"] else "",
        "curves": [_svg(curve_plot(name, curve)) for name, curve in facts["curves"].items()],
        "courses": [
            _svg(course_plot(name, curve, (logs or {}).get(name, []))) for name, curve in facts["curves"].items()
        ],
    }
    return environment.get_template("report.html").render(
        facts=facts, manifests=manifests, plots=plots, predicted=predicted
    )


def _svg(figure: Figure) -> Markup:
    return Markup(as_svg(figure))  # noqa: S704 - drawn by matplotlib, which escapes the labels


def figures(metrics: Mapping[str, float]) -> str:
    """Return a stage's metrics in one line, drops aside."""
    shown = {name: value for name, value in metrics.items() if not name.startswith("dropped.")}
    return "  ".join(f"{name} {value:,.5g}" for name, value in list(shown.items())[:6])


def by_year(dates: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Return the documents of each year, from those of each month."""
    years: Counter[str] = Counter()
    for row in dates:
        years[row["month"].split("-")[0]] += row["documents"]
    return sorted(years.items())
