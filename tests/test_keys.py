"""Keys that cannot lie: every field, version, library and input, taken from the schemas, makes the right nodes miss.

The products' real wiring and configs run over a real store; only the stages' functions stand in, writing a few bytes
that depend on all they are given, so that one rebuild of the whole chain costs milliseconds.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from pipelines import parts, products
from pipelines.artifacts import key as key_module
from pipelines.artifacts.build import build
from pipelines.artifacts.manifest import Artifact, Output
from pipelines.artifacts.pins import file_digest
from pipelines.artifacts.run import Planner
from pipelines.artifacts.stage import Metrics, Stage, StageConfig
from pipelines.artifacts.store import Store
from pipelines.config import FullConfig
from pipelines.recipes import smoke
from pipelines.settings import with_settings

WIRING = {"target", "reward.always", "align.method", "quantize.int8.bits", "quantize.int4.bits", "train_toxicity.sets"}
WIRING |= {"export_shards.formats", "pretrain.mixture.corpora"}
"""Fields that change which nodes there are, or make one node the same as another: tested apart."""
FURTHER = {"pretrain.architecture"}
FURTHER |= {f"pretrain.parallel.{name}_parallel_degree" for name in ("expert", "context")}
FURTHER |= {"pretrain.parallel.engine", "pretrain.parallel.zero_stage"}
"""Fields with one value that the whole chain takes on any machine: tested with `pretrain`'s config, in its room."""


@dataclass
class StandIn:
    """Walks a product with stages that write bytes made of all that they are given."""

    store: Store
    outputs: dict[str, set[str]]
    swap: Callable[[Stage], Stage] = lambda stage: stage
    nodes: dict[str, bool] = field(default_factory=dict)
    stages: dict[str, Stage] = field(default_factory=dict)

    def __call__(
        self, stage: Stage, config: StageConfig, *, node: str | None = None, **inputs: Output | None
    ) -> Artifact:
        node = node or stage.name
        given = {name: output for name, output in inputs.items() if output is not None}
        names = sorted(self.outputs.get(stage.name, set()) | {"main"})

        def stand_in(config: StageConfig, *, out: Path, **paths: Path) -> Metrics:
            text = {name: (path / "text").read_text() for name, path in paths.items()}
            text |= {name: root.pin(self.store.pins) for name, root in config.roots().items()}
            for name in names:
                (out / name).mkdir()
                (out / name / "text").write_text(key_module.digest_of([node, name, config.identity(), text]))
            return {}

        built = build(self.store, replace(self.swap(stage), run=stand_in), config, given, node=node)
        self.nodes[node] = built.hit
        self.stages[node] = stage
        return built.artifact


@dataclass
class Wiring(Planner):
    """Learns which outputs of each node are read, and by whom."""

    outputs: dict[str, set[str]] = field(default_factory=dict)
    needs: dict[str, set[str]] = field(default_factory=dict)

    def __call__(
        self, stage: Stage, config: StageConfig, *, node: str | None = None, **inputs: Output | None
    ) -> Artifact:
        name = node or stage.name
        self.needs[name] = {output.node for output in inputs.values() if output}
        for output in inputs.values():
            if output:
                self.outputs.setdefault(output.stage, set()).add(output.name)
        return super().__call__(stage, config, node=node, **inputs)

    def below(self, nodes: set[str]) -> set[str]:
        """The nodes, and all that is built from them."""
        reached = set(nodes)
        while more := {name for name, needs in self.needs.items() if needs & reached} - reached:
            reached |= more
        return reached


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, FullConfig, Wiring]:
    store = Store(tmp_path_factory.mktemp("keys") / "store")
    store.prepare()
    config = smoke()
    wiring = Wiring(Store(store.root / "empty"))
    products.full(config, wiring)
    walk(store, config, wiring)
    return store, config, wiring


def walk(
    store: Store, config: FullConfig, wiring: Wiring, swap: Callable[[Stage], Stage] = lambda stage: stage
) -> set[str]:
    """Run the product and return the nodes that missed."""
    run = StandIn(store, wiring.outputs, swap)
    products.full(config, run)
    return {node for node, hit in run.nodes.items() if not hit}


@dataclass(frozen=True)
class Leaf:
    """A field of a config by its dotted path."""

    path: str
    annotation: Any
    value: Any
    kind: str

    def __str__(self) -> str:
        return self.path


def leaves(config: BaseModel, prefix: str = "", kind: str = "identity") -> Iterator[Leaf]:
    """Yield every field below a config, with whether it is identity, runtime or pinned."""
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        own = kind
        if isinstance(config, StageConfig):
            own = "runtime" if name in config.runtime else "pinned" if name in config.pinned else kind
        if get_origin(info.annotation) is Literal and len(get_args(info.annotation)) == 1:
            continue  # what tells the kinds of a union apart
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}{name}.", own)
        else:
            yield Leaf(f"{prefix}{name}", info.rebuild_annotation(), value, own)


def candidates(annotation: Any, value: Any) -> Iterator[Any]:
    """Yield values other than `value` that the annotation may allow."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from candidates(get_args(annotation)[0], value)
    elif origin in (Union, UnionType):
        for option in get_args(annotation):
            if option is type(None):
                yield None
            else:
                yield from candidates(option, value)
    elif origin is Literal:
        yield from get_args(annotation)
    elif origin is tuple and value:
        yield value[:-1]
        yield (*value, *value)
        yield from ((*value[:-1], other) for other in candidates(type(value[-1]), value[-1]))
    elif origin is tuple:
        inner = get_args(annotation)[0]
        yield from ((item,) for item in candidates(inner, None))
    elif origin is dict:
        yield {**value, "other": "x"}
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        yield from annotation
    elif annotation is bool:
        yield from (True, False)
    elif annotation is int:
        base = value if isinstance(value, int) else 1
        yield from (base + 1, base - 1, base * 2, base // 2, base + 8, 1, 2)
    elif annotation is float:
        base = value if isinstance(value, float) else 0.5
        yield from (base * 0.9, base * 1.1, base / 2, base + 0.01, base - 0.01, 0.5)
    elif annotation is str:
        yield from (
            f"{value} more",
            f"{value}x",
            "other",
            "cuda",
            "<|other|>",
            "0123abcd",
            "node-0:29500",
            "qwen3",
            "causal",
        )


MESH = "pretrain.parallel"
TOGETHER: dict[str, dict[str, Any]] = {
    f"{MESH}.data_parallel_replicate_degree": {f"{MESH}.processes": 2},
    f"{MESH}.tensor_parallel_degree": {f"{MESH}.processes": 2},
    f"{MESH}.pipeline_parallel_degree": {f"{MESH}.processes": 2, "pretrain.micro_batch": 1},
    f"{MESH}.nodes": {f"{MESH}.processes": 2, f"{MESH}.rendezvous_endpoint": "node-0:29500"},
}
"""Runtime fields that have another value only beside other ones."""


def changed(config: FullConfig, leaf: Leaf) -> FullConfig:
    """Return the config with the leaf at some other valid value; fail where the schema allows none we know."""
    for other in candidates(leaf.annotation, leaf.value):
        if other == leaf.value:
            continue
        try:
            return with_settings(config, {**TOGETHER.get(leaf.path, {}), leaf.path: other})
        except (Exception, ValidationError):  # noqa: BLE001, S112 - out of the field's bounds: try the next
            continue
    raise AssertionError(f"no other valid value is known for {leaf.path}: {leaf.annotation} = {leaf.value!r}")


OTHER_SOURCES = [
    ("ingest.source", {"kind": "jsonl", "path": "crawl.jsonl"}),
    ("ingest.source", {"kind": "parquet", "path": "crawl.parquet"}),
    ("ingest.source", {"kind": "warc", "path": "crawl.warc.gz"}),
    ("examples.source", {"kind": "jsonl"}),
]


@pytest.mark.parametrize(("field", "source"), OTHER_SOURCES, ids=lambda item: str(item))
def test_every_field_of_every_other_source_is_identity_or_pinned(field: str, source: dict[str, str]) -> None:
    own = {"ingest.source": {"kind": "jsonl", "path": "crawl.jsonl"}, field: source}
    config = with_settings(smoke(), own)
    stage = field.split(".")[0]
    before = getattr(config, stage).identity()
    for leaf in leaves(config):
        if leaf.path.startswith(f"{field}.") and leaf.kind != "pinned":
            assert getattr(changed(config, leaf), stage).identity() != before, leaf.path


LEAVES = [leaf for leaf in leaves(smoke()) if leaf.path not in WIRING | FURTHER]


def node_of(path: str, nodes: set[str]) -> set[str]:
    """Return the node whose config holds this field; none where the product does not run it."""
    return {node for node in nodes if path.startswith(f"{node}.")}


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if leaf.kind == "identity"], ids=str)
def test_an_identity_field_makes_its_stage_and_what_follows_miss_and_only_them(leaf: Leaf, world: Any) -> None:
    store, config, wiring = world
    expected = wiring.below(node_of(leaf.path, set(wiring.needs)))
    missed = walk(store, changed(config, leaf), wiring)
    assert missed == expected


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if leaf.kind == "runtime"], ids=str)
def test_a_runtime_field_makes_nothing_miss(leaf: Leaf, world: Any) -> None:
    store, config, wiring = world
    assert walk(store, changed(config, leaf), wiring) == set()


def test_an_unchanged_recipe_read_back_from_yaml_hits_everywhere(world: Any, tmp_path: Path) -> None:
    store, config, wiring = world
    from pipelines.recipes import as_yaml, load_recipe

    (tmp_path / "same.yaml").write_text("from: smoke\n" + as_yaml(config))
    assert walk(store, load_recipe(str(tmp_path / "same.yaml")), wiring) == set()
    turned = dict(reversed(json.loads(config.model_dump_json()).items()))
    assert walk(store, FullConfig.model_validate(turned), wiring) == set()


NODES = {stage.name: stage for stage in (vars(products) | vars(parts)).values() if isinstance(stage, Stage)}


@pytest.mark.parametrize("name", sorted(NODES))
def test_a_raised_version_makes_its_nodes_and_what_follows_miss_and_only_them(name: str, world: Any) -> None:
    store, config, wiring = world
    planner = Planner(store)
    products.full(config, planner)
    own = {row.node for row in planner.rows if row.stage == name}

    def raised(stage: Stage) -> Stage:
        return replace(stage, version=stage.version + 1) if stage.name == name else stage

    missed = walk(store, config, wiring, raised)
    assert own <= missed <= wiring.below(own)
    # equal bytes cut the rest off early, except where a stage reads the lineage of its inputs
    assert all(NODES[stage_of(node, planner)].lineage for node in missed - own)


def stage_of(node: str, planner: Planner) -> str:
    return next(row.stage for row in planner.rows if row.node == node)


LIBRARIES = sorted({library for stage in NODES.values() for library in stage.libraries})


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_new_library_version_makes_the_stages_that_name_it_miss(
    library: str, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, config, wiring = world
    planner = Planner(store)
    products.full(config, planner)
    own = {row.node for row in planner.rows if library in NODES[row.stage].libraries}
    known = key_module.library_version
    monkeypatch.setattr(
        key_module, "library_version", lambda name: f"999+{library}" if name == library else known(name)
    )
    missed = walk(store, config, wiring)
    assert own <= missed
    assert all(NODES[stage_of(node, planner)].lineage for node in missed - own)


PACKAGE_FILES = sorted({name for stage in NODES.values() for name in stage.data})
WITHOUT_A_STAGE = {
    "corpus/toxic/toxicity_card.json": "read by people alone",
    "finetuning/chat_template.jinja": "the default of a field of chat, whose whole text is identity",
    "reporting/report.html": "shapes log/, which has no digest",
    "py.typed": "read by type checkers alone",
}


@pytest.mark.parametrize("name", PACKAGE_FILES)
def test_another_weight_word_or_template_makes_the_stages_that_read_it_miss(
    name: str, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, config, wiring = world
    planner = Planner(store)
    products.full(config, planner)
    own = {row.node for row in planner.rows if name in NODES[row.stage].data}
    known = key_module.data_digest
    monkeypatch.setattr(key_module, "data_digest", lambda file: "0" * 64 if file == name else known(file))
    planner = Planner(store)
    products.full(config, planner)
    changes = {change.split(":")[0] for row in planner.rows if row.node in own for change in row.changes}
    assert f"data.{name}" in changes, "explain names the file"
    missed = walk(store, config, wiring)
    assert own and own <= missed
    assert all(NODES[stage_of(node, planner)].lineage for node in missed - own)


def test_every_file_of_the_package_that_is_no_code_is_in_the_key_of_a_stage() -> None:
    held = {
        str(path.relative_to(key_module.PACKAGE))
        for path in key_module.PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert held == set(PACKAGE_FILES) | set(WITHOUT_A_STAGE)
    for name in PACKAGE_FILES:
        assert key_module.data_digest(name) == file_digest(key_module.PACKAGE / name)


def test_one_input_byte_makes_the_stages_that_read_it_miss(world: Any, tmp_path: Path) -> None:
    _, config, _wiring = world
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    (crawl / "a.jsonl").write_text('{"text": "one"}\n')
    own = with_settings(config, {"ingest.source": str(crawl)})
    store = Store(tmp_path / "store")
    store.prepare()
    planned = Wiring(Store(tmp_path / "empty"))
    products.full(own, planned)
    walk(store, own, planned)
    assert walk(store, own, planned) == set()
    shutil.copytree(crawl, tmp_path / "moved")
    moved = with_settings(config, {"ingest.source": str(tmp_path / "moved")})
    assert walk(store, moved, planned) == set()
    (crawl / "a.jsonl").write_text('{"text": "two"}\n')
    assert walk(store, own, planned) == planned.below({"ingest"})


@pytest.mark.parametrize("target", ["base", "sft", "student"])
def test_another_target_leaves_every_model_as_it_is(target: str, world: Any) -> None:
    store, config, wiring = world
    missed = walk(store, with_settings(config, {"target": target}), wiring)
    assert missed and not missed & {"pretrain", "sft", "reward", "align", "distill", "dedup"}
