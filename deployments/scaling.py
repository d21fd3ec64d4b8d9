"""`gristmill scale`: what a ladder of small runs says of larger ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from deployments.options import JsonOption, StoreOption, open_store
from deployments.planning import scaled, span
from deployments.tables import console, print_json
from pipelines.artifacts.errors import UserError
from pipelines.planning.ladder import Ladder, ladder_in

if TYPE_CHECKING:
    from pipelines.planning.advice import Advice, Trial

PICTURES = (".png", ".svg")


def scale(
    *,
    flops: Annotated[
        float | None, Parameter(help="The budget, in operations, as 1e15; default: ten times the dearest run.")
    ] = None,
    like: Annotated[
        str | None, Parameter(help="The first digits of the key of one run of the ladder; default: the longest ladder.")
    ] = None,
    plot: Annotated[Path | None, Parameter(help="Draw the ladder and its fit into this .svg or .png file.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit loss to parameters and tokens from the pre-training runs of the store, and say what a budget should buy.

    The fit is L = E + A / N^alpha + B / D^beta over runs that differ in size, length and learning rate alone, with
    95% intervals. The dearest run is left out of it and tests it: is its loss in the interval that was foretold?
    """
    if flops is not None and not 0 < flops < float("inf"):
        raise UserError(f"--flops: {flops:g} is no budget; give operations, as 1e15")
    if plot is not None and (plot.suffix not in PICTURES or not plot.parent.is_dir()):
        raise UserError(f"--plot: {str(plot)!r} is no file to draw into; name one that ends in {' or '.join(PICTURES)}")
    ladder = ladder_in(open_store(store), like)
    ladder.split()  # too few runs are named before scipy is loaded
    from pipelines.planning.advice import advise, trial_of

    found = trial_of(ladder)
    advice = advise(ladder, found, flops or 10 * ladder.rungs[-1].flops)
    if plot is not None:
        from pipelines.reporting.scaling_plot import scaling_plot, write_plot

        write_plot(scaling_plot(found), plot)
    if as_json:
        return print_json(_as_json(ladder, found, advice))
    _print(ladder, found, advice)
    return None


def _as_json(ladder: Ladder, found: "Trial", advice: "Advice") -> dict[str, Any]:
    choices = {
        name: {**vars(choice), "loss": vars(choice.loss)}
        for name, choice in (("chosen", advice.chosen), ("chinchilla", advice.chinchilla))
    }
    return {
        "runs": [vars(rung) for rung in ladder.rungs],
        "fitted": [rung.key for rung in found.fitted],
        "fit": {name: vars(found.fit.figure(name)) for name in ("E", "A", "alpha", "B", "beta")},
        "test": {"key": found.test.key, "loss": found.test.loss, "expected": vars(found.expected), "ok": found.holds},
        "advice": {
            "flops": advice.flops,
            "parameters": vars(advice.parameters),
            "tokens": vars(advice.tokens),
            "lr": advice.rate.lr,
            "lr_from": advice.rate.why,
            "is_far": advice.is_far,
            **choices,
        },
    }


def _print(ladder: Ladder, found: "Trial", advice: "Advice") -> None:
    out = console()
    table = Table("run", "size", box=None, pad_edge=False)
    for column in ("parameters", "tokens", "lr", "operations", "loss", "by the fit"):
        table.add_column(column, justify="right")
    best = {rung.key for rung in ladder.best()}
    for rung in ladder.rungs:
        if rung.key in best:
            figures = (scaled(rung.parameters), scaled(rung.tokens), f"{rung.lr:g}", f"{rung.flops:.2g}")
            by_fit = f"{found.fit.law.loss(rung.parameters, rung.tokens):.4f}"
            table.add_row(rung.key[:12], rung.size, *figures, f"{rung.loss:.4f}", by_fit)
    out.print(table)
    if ladder.others:
        others = "1 other ladder is" if ladder.others == 1 else f"{ladder.others} other ladders are"
        out.print(f"{others} in the store; --like KEY names one")
    out.print("\nL = E + A / N^alpha + B / D^beta, with 95% intervals:", markup=False)
    for name in ("E", "A", "alpha", "B", "beta"):
        out.print(f"  {name} {span(found.fit.figure(name), lambda value: f'{value:.4g}')}", markup=False)
    test, verdict = found.test, "inside" if found.holds else "OUTSIDE"
    expected = span(found.expected, lambda loss: f"{loss:.4f}")
    out.print(
        f"held-out run {test.size}, {scaled(test.parameters)} parameters, {scaled(test.tokens)} tokens: "
        f"loss {test.loss:.4f}, {verdict} what was foretold, {expected}", markup=False,
    )  # fmt: skip
    out.print(f"\nfor {advice.flops:.3g} operations:", markup=False)
    out.print(f"  the fit: {span(advice.parameters, scaled)} parameters, {span(advice.tokens, scaled)} tokens")
    for what, choice in (("of the sizes", advice.chosen), ("Chinchilla's 20 tokens a parameter", advice.chinchilla)):
        loss = span(choice.loss, lambda value: f"{value:.4f}")
        told = f"{choice.size}, {scaled(choice.parameters)} parameters, {scaled(choice.tokens)} tokens, loss {loss}"
        out.print(f"  {what}: {told}", markup=False)
    out.print(f"  lr {advice.rate.lr:.2g}: {advice.rate.why}", markup=False)
    if advice.is_far:
        out.print("  this is over a hundred times the dearest run: train larger ones before you rely on it")
