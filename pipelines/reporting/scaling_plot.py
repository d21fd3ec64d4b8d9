"""The picture of a ladder: its losses, the fit through them, and the run that the fit was tested on."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pipelines.planning.advice import Trial
from pipelines.reporting.plots import BLUE, GREY, ORANGE, as_svg

CURVE_POINTS = 60


def scaling_plot(found: Trial) -> Figure:
    """Return losses over tokens, a line a size; the held-out run stands with the interval that was foretold."""
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.subplots()
    test = found.test
    sizes = sorted({rung.parameters for rung in found.fitted})
    last = max(rung.tokens for rung in (*found.fitted, test)) * 1.3
    for number, parameters in enumerate(sizes):
        rungs = sorted((rung for rung in found.fitted if rung.parameters == parameters), key=lambda rung: rung.tokens)
        shade = 0.35 + 0.65 * (number + 1) / len(sizes)
        lengths = np.geomspace(rungs[0].tokens / 1.3, last, CURVE_POINTS)
        curve = np.exp(found.fit.law.log_loss(float(parameters), lengths))
        axes.plot(lengths, curve, color=BLUE, alpha=shade, lw=1, label=f"{parameters / 1e6:.1f} M")
        axes.plot([rung.tokens for rung in rungs], [rung.loss for rung in rungs], "o", color=BLUE, alpha=shade, ms=4)
    expected = found.expected
    reach = [[expected.value - expected.low], [expected.high - expected.value]]
    axes.errorbar([test.tokens], [expected.value], yerr=reach, color=GREY, capsize=4, lw=2, label="foretold, 95%")
    axes.plot([test.tokens], [test.loss], "D", color=ORANGE, ms=6, label=f"held out, {test.parameters / 1e6:.1f} M")
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_xlabel("tokens")
    axes.set_ylabel("held-out loss, nats a token")
    axes.legend(frameon=False)
    return figure


def write_plot(figure: Figure, path: Path) -> None:
    """Write the picture as SVG or PNG, as the file's name says."""
    if path.suffix == ".svg":
        path.write_text(as_svg(figure))
    else:
        figure.savefig(path, dpi=150)
