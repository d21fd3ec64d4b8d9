"""`gristmill promote` and `gristmill rollback`: which model is served."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deployments.options import JsonOption, Options, StoreOption, open_store, planned, product_named
from deployments.tables import console, print_json
from pipelines.artifacts import registry
from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.run import LocalRun, Outcome, record_run, tell, until_sound
from pipelines.artifacts.store import Store
from pipelines.evaluation.promotion import outcome_of
from pipelines.settings import with_settings

OPTIONS = Options()
PRODUCT = "evaluate-and-promote"


def promote(
    bundle: Annotated[
        str,
        Parameter(help="A bundle's folder in the store, or the first digits of its key; default: the newest run's."),
    ] = "newest",
    *,
    options: Options = OPTIONS,
) -> None:
    """Serve a packaged model if it passes every gate; without Prefect. A refusal leaves a record and exit status 1."""
    product, store = product_named(PRODUCT), options.open_store()
    config = with_settings(options.config(), {"promote.bundle": _key(bundle, store)})
    _, part = planned(product, config, store)  # a bundle that is not there is named before anything starts
    store.prepare()
    local = LocalRun(store, on_end=tell)
    done = until_sound(lambda: product.wire(part, local), local)
    record_run(store, PRODUCT, local.results)
    assert product.act is not None  # noqa: S101 - the product's own row says so
    _told(product.act(store, part, done), as_json=options.json)


def rollback(*, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Serve the model that was served before the current one; a second time, the one before that."""
    opened = open_store(store)
    opened.prepare()
    _told(outcome_of(registry.rollback(opened)), as_json=as_json)


def _key(bundle: str, store: Store) -> str:
    """Return a key's digits for a bundle given by its folder; only what is in the store has a lineage to judge."""
    if "/" not in bundle:
        return bundle
    found = (Path(bundle).resolve() / "bundle.json").parent.parent
    if found.parent != store.root.resolve() / "package":
        raise UserError(f"bundle: {bundle!r} is no bundle in {str(store.root)!r}; name one that a run packaged there")
    return found.name


def _told(outcome: Outcome, *, as_json: bool) -> None:
    """Print what came of it; raise StageFailed for a refusal, so that a script that goes on from here stops."""
    if as_json:
        print_json(outcome.facts)
    elif outcome.name != "Refused":
        console().print(f"{outcome.name}: {outcome.line}", markup=False)
    if outcome.name == "Refused":
        raise StageFailed(f"refused: {outcome.line}")
