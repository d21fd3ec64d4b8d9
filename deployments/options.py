"""What the commands share: the store, the recipe with its settings, and how an error ends a process."""

import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.mirror_uri import mirror_at
from pipelines.artifacts.run import Planner
from pipelines.artifacts.stage import StageConfig
from pipelines.artifacts.store import Store
from pipelines.config import FullConfig
from pipelines.products import PRODUCTS, Product, part_of
from pipelines.recipes import load_recipe
from pipelines.settings import parse_setting, with_settings

StoreOption = Annotated[
    Path | None, Parameter(help="Where artifacts are kept; default $GRISTMILL_STORE or ./artifacts.")
]

MirrorOption = Annotated[
    str | None,
    Parameter(
        help="Where finished artifacts are kept as well, a folder or any fsspec URI: asked before a stage is built, "
        "filled after; default $GRISTMILL_MIRROR, or none."
    ),
]

TaskRunnerOption = Annotated[
    str | None,
    Parameter(
        help="Where stages that do not wait for each other are built: sequential, dask or dask:4 (so many at once on "
        "this host), tls://HOST:PORT (a Dask cluster); default $GRISTMILL_TASK_RUNNER, or sequential."
    ),
]

FlowName = Annotated[str, Parameter(help="; ".join(f"{name}: {item.purpose}" for name, item in PRODUCTS.items()) + ".")]

JsonOption = Annotated[bool, Parameter(name="--json", help="Print JSON for machines.", negative="")]


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """Which recipe, with which changes, in which store."""

    recipe: Annotated[str, Parameter(help="A recipe's name (see `gristmill recipe`) or a YAML file.")] = "demo"
    set: Annotated[
        tuple[str, ...], Parameter(help="Change one field, as in `--set pretrain.max_steps=200`; may be repeated.")
    ] = ()
    store: StoreOption = None
    mirror: MirrorOption = None
    json: Annotated[bool, Parameter(help="Print JSON for machines.", negative="")] = False

    def config(self) -> FullConfig:
        """Return the recipe with its settings, checked."""
        return with_settings(load_recipe(self.recipe), dict(parse_setting(text) for text in self.set))

    def open_store(self) -> Store:
        """Return the store with its mirror."""
        store = open_store(self.store)
        store.mirror = mirror_at(self.mirror or os.environ.get("GRISTMILL_MIRROR"), store.root)
        return store


def open_store(folder: Path | None) -> Store:
    """Return the store in `folder`, in $GRISTMILL_STORE, or in ./artifacts."""
    return Store(folder or Path(os.environ.get("GRISTMILL_STORE", "artifacts")))


def product_named(name: str) -> Product:
    """Return the product; raise UserError with a suggestion where there is none of that name."""
    if name in PRODUCTS:
        return PRODUCTS[name]
    near = get_close_matches(name, PRODUCTS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(PRODUCTS)}"
    raise UserError(f"flow: {name!r} is none; {hint}")


def planned(product: Product, config: FullConfig, store: Store) -> tuple[Planner, StageConfig]:
    """Return the plan of a product and the part of the recipe that it reads."""
    part = part_of(product.config, config)
    planner = Planner(store)
    product.wire(part, planner)
    store.pins.save()
    return planner, part
