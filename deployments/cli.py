"""The command line: one word a thing, one line an error."""

import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from deployments import artifacts, promotion
from deployments.catalog import NAMES, chosen
from deployments.options import (
    FlowName,
    JsonOption,
    Options,
    StoreOption,
    TaskRunnerOption,
    open_store,
    planned,
    product_named,
)
from deployments.planning import plan
from deployments.prefect_settings import CLIENT, COMMAND, apply
from deployments.scaling import scale
from deployments.tables import console, plan_rows, print_json, print_results, print_trace, result_rows
from pipelines.artifacts import registry
from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.nodes import node_named
from pipelines.artifacts.progress import say
from pipelines.artifacts.run import LocalRun, NodeResult, needed_for, record_run, tell, until_sound
from pipelines.evaluation.promotion import newest
from pipelines.planning.forecast import refuse_what_cannot_fit
from pipelines.recipes import RECIPES, as_yaml

app = App(
    name="gristmill",
    help="From web crawl to served language model, one reproducible run. Finished stages are never redone.",
    version_flags=["--version"],
)
app.command(artifacts.app)
app.command(plan)
app.command(scale)
app.command(promotion.promote)
app.command(promotion.rollback)
OPTIONS = Options()


@app.command
def run(flow: FlowName = "full", *, task_runner: TaskRunnerOption = None, options: Options = OPTIONS) -> None:
    """Run a flow through Prefect: what the store has is a hit, what is half done goes on where it stopped.

    With no Prefect server running, one is started for the time of the run.
    """
    product = product_named(flow)
    store = options.open_store()
    config = options.config()
    store.prepare()
    planner, part = planned(product, config, store)  # a source that does not exist is named before anything starts
    if task_runner is None:
        refuse_what_cannot_fit(planner, part)
    os.environ["GRISTMILL_STORE"] = str(store.root)
    apply(COMMAND)
    os.environ["GRISTMILL_MIRROR"] = store.mirror.uri if store.mirror else ""
    if task_runner:
        os.environ["GRISTMILL_TASK_RUNNER"] = task_runner
    from deployments.flow_run import run_flow

    results = run_flow(product.name, part)
    if options.json:
        return print_json(result_rows(results))
    print_results(results)
    _print_products(results)
    return None


@app.command
def stage(node: str, *, flow: FlowName = "full", options: Options = OPTIONS) -> None:
    """Build one stage, and what it needs that the store lacks. Starts no Prefect server."""
    product = product_named(flow)
    store = options.open_store()
    planner, part = planned(product, options.config(), store)
    wanted = needed_for(node_named(node, planner), planner.rows)
    refuse_what_cannot_fit(planner, part, wanted)
    store.prepare()
    local = LocalRun(store, only=wanted, on_end=tell)
    until_sound(lambda: product.wire(part, local), local)
    record_run(store, f"stage-{node}", local.results)
    if options.json:
        print_json(result_rows(local.results))
    else:
        print_results(local.results)
        console().print(f"artifact: {local.results[-1].path}", markup=False)


@app.command
def explain(node: str, *, flow: FlowName = "full", options: Options = OPTIONS) -> None:
    """Say which field, input or version makes a stage miss, against the nearest one that was built."""
    store = options.open_store()
    planner, _ = planned(product_named(flow), options.config(), store)
    row = next(row for row in planner.rows if row.node == node_named(node, planner))
    manifest = store.find(row.stage, row.key) if row.key else None
    code = ""
    if manifest:
        from pipelines.artifacts.code import code_digest

        if code_digest(row.definition) != manifest.code:
            code = "its code has changed since it was built; if its meaning has, raise its version"
    if options.json:
        return print_json({**plan_rows([row])[0], "changes": list(row.changes), "code": code or None})
    console().print(f"{row.node}: {row.state} {(row.key or '')[:12]} {row.why}".rstrip(), markup=False)
    for line in row.changes:
        console().print(f"  {line}", markup=False)
    if code:
        console().print(f"  {code}")
    return None


@app.command
def recipe(name: str | None = None, *, options: Options = OPTIONS) -> None:
    """List the recipes, or print one as YAML, ready to be edited and given to --recipe."""
    if name is None:
        summaries = {item: (make.__doc__ or "").splitlines()[0] for item, make in RECIPES.items()}
        return print_json(summaries) if options.json else _print_recipes(summaries)
    config = Options(recipe=name, set=options.set).config()
    if options.json:
        return print_json(config.model_dump(mode="json"))
    sys.stdout.write(as_yaml(config))
    return None


@app.command
def trace(
    document: str,
    *,
    flow: Annotated[str | None, Parameter(help="Only through runs of this flow; default: of any.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what became of a document, named by its id or its URL: where it was read, and why it was kept or removed."""
    from pipelines.reporting.trace import trace_document

    found = trace_document(open_store(store), document, flow and product_named(flow).name)
    if as_json:
        return print_json(asdict(found))
    print_trace(found.id or document, found.run, [(step.node, step.output, step.facts) for step in found.steps])
    return None


@app.command
def report(
    *,
    out: Annotated[Path | None, Parameter(help="Copy the report to this file.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print where the newest run's report is, or copy it to --out."""
    found = newest(open_store(store), "report") / "log" / "report.html"
    if out is not None:
        try:
            out.write_bytes(found.read_bytes())
        except OSError as error:
            raise UserError(f"--out: {str(out)!r} cannot be written ({error.strerror}); name another file") from error
    if as_json:
        return print_json({"report": str(out or found)})
    console().print(str(out or found), markup=False)
    return None


@app.command
def serve(
    bundle: Annotated[Path | None, Parameter(help="A bundle's folder; default: the promoted one, followed.")] = None,
    *,
    host: Annotated[str, Parameter(help="Another host than loopback needs GRISTMILL_API_KEY.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="0 takes a free one.")] = 8000,
    precision: Annotated[str | None, Parameter(help="full, int8 or int4; default: the bundle's own.")] = None,
    store: StoreOption = None,
) -> None:
    """Serve a bundle as an OpenAI-compatible endpoint until Ctrl-C: chat, completions, models, health.

    Without BUNDLE it serves what is promoted and goes over to each model that is promoted next, without dropping a
    request; until a first one is, it serves the newest run's.
    """
    from pipelines.serving.serve import serve as serve_bundle

    opened = open_store(store)
    promoted = None if bundle else registry.current(opened)
    folder = bundle or (promoted.bundle(opened) if promoted else newest(opened, "package") / "bundle")
    follow = None if bundle else opened
    told = "follows what is promoted; " if follow else ""
    ready = f"{told}Ctrl-C stops it"
    serve_bundle(
        folder, host, port, precision, follow=follow, ready=lambda url: say(f"serving {folder} at {url}/v1; {ready}")
    )


@app.command
def server(
    *,
    host: Annotated[
        str, Parameter(help="Another host than loopback needs PREFECT_SERVER_API_AUTH_STRING.")
    ] = "127.0.0.1",
    port: Annotated[int, Parameter(help="0 takes a free one.")] = 4200,
    database: Annotated[
        str | None, Parameter(help="postgresql://USER@HOST/NAME; default: a SQLite file in PREFECT_HOME.")
    ] = None,
) -> None:
    """Run Prefect's server and its UI with the settings that our runs need, until Ctrl-C."""
    from deployments.server import serve_prefect

    serve_prefect(host, port, database)


@app.command
def deploy(
    *names: Annotated[str, Parameter(help=f"Which: {', '.join(NAMES)}; default: all.")],
    schedule: Annotated[
        tuple[str, ...],
        Parameter(help="Another cron line (UTC) for one, as in `dedup-only=0 4 * * *`; `off` for none."),
    ] = (),
    overlap: Annotated[
        tuple[str, ...], Parameter(help="What a run does whose predecessor still runs: `full=queue` or `full=skip`.")
    ] = (),
    at_once: Annotated[int, Parameter(help="How many runs this process runs at a time.")] = 2,
    pool: Annotated[str | None, Parameter(help="Leave the runs to the workers of this pool, and return.")] = None,
    task_runner: TaskRunnerOption = None,
    options: Options = OPTIONS,
) -> None:
    """Register the deployments at the server that PREFECT_API_URL names, and serve them until Ctrl-C.

    Their parameters are the recipe's; a run may be given others in the UI.
    """
    rows = chosen(names, schedule, overlap)
    recipe = options.config()
    store = options.open_store()
    os.environ["GRISTMILL_STORE"] = str(store.root.absolute())
    os.environ["GRISTMILL_MIRROR"] = store.mirror.uri if store.mirror else ""
    if task_runner:
        os.environ["GRISTMILL_TASK_RUNNER"] = task_runner
    apply(CLIENT)
    from deployments.deploy import deploy as serve_deployments

    serve_deployments(rows, recipe, pool, at_once)


def _print_products(results: list[NodeResult]) -> None:
    by_node = {result.node: result for result in results}
    if "report" in by_node:
        console().print(f"report: {by_node['report'].path / 'log' / 'report.html'}", markup=False)
    if "package" in by_node:
        bundle = by_node["package"].path / "bundle"
        console().print(f"bundle: {bundle}\nserve it: gristmill serve {bundle}", markup=False)


def _print_recipes(summaries: dict[str, str]) -> None:
    for name, summary in summaries.items():
        console().print(f"{name:8} {summary}")


def main() -> None:
    """Run the command line: exit status 2 for a user's mistake, 1 for a failed run."""
    # OpenMP's default spins for milliseconds at every barrier; beside another busy process that all but stops training.
    # 20,000 turns cost nothing measurable on a quiet machine. Read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    for chatter in ("torchao", "torch.utils._pytree"):  # kernels and enums of a library that transformers only probes
        logging.getLogger(chatter).setLevel(logging.ERROR)
    try:
        app(exit_on_error=False, print_error=False, result_action="return_value")
    except UserError as error:
        sys.exit(_complain(str(error), 2))
    except CycloptsError as error:
        sys.exit(_complain(" ".join(str(error).split()), 2))
    except StageFailed as error:
        sys.exit(_complain(str(error), 1))
    except KeyboardInterrupt:
        sys.exit(_complain("stopped; run the same command again to go on", 130))


def _complain(line: str, status: int) -> int:
    say(f"gristmill: {line}")
    return status


if __name__ == "__main__":
    main()
