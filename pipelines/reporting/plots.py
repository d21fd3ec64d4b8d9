"""The plots of a report, as SVG to embed in HTML and as PNG for the Prefect UI."""

import base64
import io
from collections import Counter
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

SHARES = ("acc", "top1_agreement")
INK, BLUE, ORANGE, GREY = "#1f2933", "#2563a8", "#c8641b", "#9aa5b1"
mpl.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "svg.fonttype": "none",
        "svg.hashsalt": "gristmill",
    }
)


def funnel_plot(funnel: list[dict[str, Any]]) -> Figure:
    """Return bars of what each corpus stage kept and dropped."""
    figure = Figure(figsize=(7.2, 0.5 * len(funnel) + 0.7), layout="constrained")
    axes = figure.subplots()
    names = [row["stage"] for row in funnel]
    kept = [row["kept"] for row in funnel]
    axes.barh(names, kept, color=BLUE, label="kept")
    axes.barh(names, [row["in"] - row["kept"] for row in funnel], left=kept, color=ORANGE, label="dropped")
    for name, count, row in zip(names, kept, funnel, strict=True):
        axes.annotate(f" {count:,} of {row['in']:,}", (row["in"], name), va="center", color=INK)
    axes.invert_yaxis()
    axes.set_xlabel("documents")
    axes.margins(x=0.2)
    figure.legend(loc="outside lower right", ncols=2, frameon=False)
    return figure


def meeting_plot(duplicates: dict[str, Any]) -> Figure:
    """Return the chance that two documents are compared, by their similarity: the S-curve of the chosen bands."""
    figure = Figure(figsize=(3.6, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*duplicates["meeting_chance"], strict=True), color=BLUE, lw=1.5)
    axes.axvline(duplicates["threshold"], color=ORANGE, lw=1, ls="--")
    axes.annotate(" threshold", (duplicates["threshold"], 0.05), color=ORANGE)
    axes.set_title(f"{duplicates['bands']} bands of {duplicates['rows']} rows", loc="left", color=INK)
    axes.set_xlabel("Jaccard similarity")
    axes.set_ylabel("chance to be compared")
    return figure


def cluster_plot(duplicates: dict[str, Any]) -> Figure:
    """Return how many clusters there are by size, each bar up to twice the size of the one before."""
    figure = Figure(figsize=(3.6, 2.4), layout="constrained")
    axes = figure.subplots()
    bars: Counter[int] = Counter()
    for size, count in duplicates["cluster_sizes"]:
        if size > 1:  # the others are documents by themselves
            bars[(size - 1).bit_length()] += count
    steps = range(1, max(bars, default=1) + 1)
    names = [f"{2 ** (step - 1) + 1:,}" + (f"–{2**step:,}" if step > 1 else "") for step in steps]  # noqa: RUF001
    drawn = axes.bar(names, [bars[step] for step in steps], color=BLUE)
    axes.bar_label(drawn, fmt="{:,.0f}", color=INK)
    axes.tick_params(axis="x", rotation=90 if len(names) > 6 else 0)
    axes.margins(y=0.15)
    axes.set_title("clusters by size", loc="left", color=INK)
    axes.set_xlabel("documents in the cluster")
    axes.set_ylabel("clusters")
    return figure


def sentiment_plot(groups: dict[str, Any]) -> Figure:
    """Return a point with its 95% interval for the sentiment around each group, and a band for that around any word."""
    shown = [row for row in groups["rows"] if row["low"] is not None]
    figure = Figure(figsize=(7.2, 0.24 * len(shown) + 0.9), layout="constrained")
    axes = figure.subplots()
    any_word = groups["baseline"]
    if any_word["low"] is not None:
        axes.axvspan(any_word["low"], any_word["high"], color=GREY, alpha=0.4, label=any_word["group"])
        axes.legend(loc="lower right", frameon=False)
    for index, row in enumerate(shown):
        axes.plot([row["low"], row["high"]], [index, index], color=GREY, lw=2)
        axes.plot([row["sentiment"]], [index], "o", color=BLUE, ms=5)
    axes.set_yticks(range(len(shown)), [f"{row['axis']}: {row['group']} ({row['documents']:,})" for row in shown])
    axes.invert_yaxis()
    axes.set_xlabel("sentiment of the words around a mention, with 95% interval")
    return figure


def curve_plot(name: str, curve: list[dict[str, Any]]) -> Figure:
    """Return the training loss of one stage, with the held-out loss where it was taken."""
    figure = Figure(figsize=(3.6, 2.4), layout="constrained")
    axes = figure.subplots()
    loss = [(row["step"], row["loss"]) for row in curve if row.get("loss") is not None]
    heldout = [(row["step"], row["heldout_loss"]) for row in curve if row.get("heldout_loss") is not None]
    if loss:
        axes.plot(*zip(*loss, strict=True), color=BLUE, lw=1, label="training")
    if heldout:
        axes.plot(*zip(*heldout, strict=True), color=ORANGE, lw=1.2, marker="o", ms=3, label="held out")
        axes.legend(frameon=False)
    axes.set_title(name, loc="left", color=INK)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    return figure


def course_plot(name: str, curve: list[dict[str, Any]], log: list[dict[str, Any]]) -> Figure:
    """Return learning rate and gradient length over the steps of a stage, and tokens a second where a log has them."""
    panels = [("lr", "learning rate", curve), ("grad_norm", "gradient length", curve)]
    panels += [("tokens_per_second", "tokens a second", log)] if log else []
    figure = Figure(figsize=(7.2, 2.0), layout="constrained")
    for axes, (field, label, rows) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        points = [(row["step"], row[field]) for row in rows if row.get(field) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), color=BLUE, lw=1)
        axes.set_ylabel(label)
        axes.set_xlabel("step")
    figure.suptitle(name, x=0.01, ha="left", color=INK, fontsize=9)
    return figure


def score_plot(scores: list[dict[str, Any]]) -> Figure:
    """Return a point with its 95% interval for every score that is a share of right answers."""
    shown = [row for row in scores if row["metric"].startswith(SHARES)]
    figure = Figure(figsize=(7.2, 0.28 * len(shown) + 0.8), layout="constrained")
    axes = figure.subplots()
    for index, row in enumerate(shown):
        axes.plot([row["low"], row["high"]], [index, index], color=GREY, lw=2)
        axes.plot([row["value"]], [index], "o", color=BLUE, ms=5)
    axes.set_yticks(range(len(shown)), [f"{row['node']}: {row['task']} {row['metric']}" for row in shown])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("score with 95% interval")
    return figure


def as_svg(figure: Figure) -> str:
    """Return the figure as an <svg> element, the same bytes each time."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def as_data_url(figure: Figure) -> str:
    """Return the figure as a PNG data URL, which Prefect's markdown shows (it strips inline SVG)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
