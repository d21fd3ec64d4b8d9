"""`gristmill plan`: what a run would do, and what it would take on this machine."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.table import Table

from deployments.options import FlowName, Options, planned, product_named
from deployments.tables import console, plan_rows, print_json, print_plan
from pipelines.artifacts.errors import UserError
from pipelines.planning.forecast import Forecast, forecasts
from pipelines.planning.prediction import Interval, Prices

OPTIONS = Options()
CLOCK = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
SCALE = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def plan(
    flow: FlowName = "full",
    *,
    calibrate: Annotated[
        Literal["missing", "all"] | None,
        Parameter(
            help="Measure short steps of each pre-training on this machine, some seconds each: those that no earlier "
            "plan in this store has measured, or all anew. Without it a plan takes what is measured already."
        ),
    ] = None,
    price_per_hour: Annotated[float | None, Parameter(help="What an hour of this machine costs.")] = None,
    price_per_kwh: Annotated[float | None, Parameter(help="What a kilowatt-hour costs.")] = None,
    watts: Annotated[
        float | None, Parameter(help="What this machine draws when it is busy; default: measured, else modelled.")
    ] = None,
    options: Options = OPTIONS,
) -> None:
    """Say what a run would do, and why: a row a stage with its key and hit, partial, miss or waiting.

    Of pre-training that is not done yet it says parameters, tokens and operations, and where the machine has been
    measured, time, memory, energy and, with a price, cost. What cannot fit this machine is refused with what would.
    """
    for name, value in (("hour", price_per_hour), ("kwh", price_per_kwh)):
        if value is not None and not 0 <= value < float("inf"):
            raise UserError(f"--price-per-{name}: {value:g} is no price; give a number of at least 0")
    if watts is not None and not 0 < watts < float("inf"):
        raise UserError(f"--watts: {watts:g} is no power; give a number above 0")
    store = options.open_store()
    planner, part = planned(product_named(flow), options.config(), store)
    found = forecasts(planner, part, store, Prices(price_per_hour, price_per_kwh, watts), calibrate)
    if options.json:
        by_node = {item.node: _as_json(item) for item in found}
        return print_json([{**row, "forecast": by_node.get(row["node"])} for row in plan_rows(planner.rows)])
    print_plan(planner.rows)
    if found:
        _print_forecasts(found)
    return None


def _as_json(item: Forecast) -> dict[str, Any]:
    counts, prediction = item.counts, item.prediction
    told: dict[str, Any] = {**vars(counts), "why": item.why or None}
    if prediction:
        figures = {name: getattr(prediction, name) for name in ("seconds", "memory_bytes", "kilowatt_hours", "cost")}
        told |= {name: vars(value) if value else None for name, value in figures.items()}
        told["energy_source"] = prediction.energy_source
    return told


def _print_forecasts(found: list[Forecast]) -> None:
    """Print a row a node that trains: what there is to do, and what it will take, each with its interval."""
    table = Table("node", box=None, pad_edge=False)
    for column in ("parameters", "tokens", "operations", "time", "peak memory", "energy", "cost"):
        table.add_column(column, justify="right")
    for item in found:
        counts, prediction = item.counts, item.prediction
        row = [scaled(counts.parameters), scaled(counts.tokens), f"{counts.flops:.2g}"]
        if prediction:
            row += [
                span(prediction.seconds, duration),
                span(prediction.memory_bytes, lambda size: f"{size / 2**30:.2f} GiB"),
                f"{span(prediction.kilowatt_hours, lambda energy: f'{energy:.2g} kWh')} {prediction.energy_source}",
                span(prediction.cost, lambda money: f"{money:.3g}") if prediction.cost else "no price",
            ]
        table.add_row(item.node, *row)
    console().print()
    console().print(table)
    for item in found:
        if item.why:
            console().print(f"{item.node}: time and memory are not predicted: {item.why}", markup=False)


def span(figure: Interval, shown: Callable[[float], str]) -> str:
    """Return a figure with its interval."""
    return f"{shown(figure.value)} ({shown(figure.low)} to {shown(figure.high)})"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it, to two or three digits."""
    size, unit = next(((size, unit) for size, unit in CLOCK if seconds >= 2 * size), CLOCK[-1])
    return f"{seconds / size:.3g} {unit}"


def scaled(count: float) -> str:
    """Return a count with a letter for its thousands."""
    size, letter = next(((size, letter) for size, letter in SCALE if count >= size), (1.0, ""))
    return f"{count / size:.3g}{letter}"
