"""The house holds: rooms, names, one task and one config field a stage, and a README that matches the code."""

import ast
import importlib
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from pydantic import BaseModel

from pipelines import parts, products, retraining
from pipelines.artifacts.stage import Stage
from pipelines.config import FullConfig
from pipelines.evaluation import promotion
from tests.readme_tree import updated

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("deployments", "flows", "tasks", "pipelines")
WIRED = vars(products) | vars(parts) | vars(promotion) | vars(retraining)
STAGES = {stage.name: stage for stage in WIRED.values() if isinstance(stage, Stage)}
HEAVY = ("torch", "transformers", "trl", "datatrove", "numba", "pyarrow", "prefect", "datasets", "lm_eval")
MODULES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("name", sorted(STAGES))
def test_a_stage_its_module_function_config_and_constant_share_one_stem(name: str) -> None:
    stage = STAGES[name]
    module = importlib.import_module(stage.run.__module__)
    assert module.__name__.rsplit(".", 1)[1] == name == stage.run.__name__
    assert stage.config.__name__.lower() == f"{name.replace('_', '')}config"
    assert getattr(module, name.upper()) is stage
    assert name in FullConfig.model_fields, "a stage has its field in the config"


@pytest.mark.parametrize("name", sorted(STAGES))
def test_a_stage_has_a_test_and_a_golden_file(name: str) -> None:
    room = STAGES[name].run.__module__.split(".")[1]
    assert (ROOT / "tests" / room / f"test_{name}.py").is_file()
    if name in ("train_toxicity", "compare", "drift"):
        return  # smoke has no labelled texts, and one model: the weights that ship and a test's figures stand for them
    assert (ROOT / "tests" / "golden" / f"{name}.json").is_file()


def test_every_stage_has_one_task() -> None:
    from flows.product import TASKS

    assert set(TASKS) == set(STAGES)


def test_every_product_is_a_flow_of_its_name_with_one_config() -> None:
    from deployments.flow_run import FLOWS, flow_named

    assert set(FLOWS) == set(products.PRODUCTS)
    for name, product in products.PRODUCTS.items():
        assert flow_named(name).name == name
        parameters = flow_named(name).parameters.properties
        assert list(parameters) == ["config"], name
        assert product.config.model_config.get("title"), name


def test_every_config_field_is_described_and_titled_for_the_form() -> None:
    def check(model: type[BaseModel], where: str) -> None:
        assert model.model_config.get("title"), f"{where} has no title"
        for name, info in model.model_fields.items():
            assert info.description, f"{where}.{name} has no description"
            assert not info.is_required(), f"{where}.{name} has no default"
            value = info.get_default(call_default_factory=True)
            if isinstance(value, BaseModel):
                check(type(value), f"{where}.{name}")

    check(FullConfig, "full")


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_opens_with_a_sentence_and_stays_small(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "a module opens with one sentence"
    assert len(text.splitlines()) <= 300


def test_no_module_of_ours_shadows_a_library() -> None:
    libraries = {name.lower() for name in metadata.packages_distributions()} | set(sys.stdlib_module_names)
    for path in (ROOT / "flows").glob("*.py"):
        assert path.stem == "__init__" or path.stem not in libraries, path


def test_a_plan_imports_neither_torch_nor_prefect() -> None:
    script = (
        "import sys, deployments.cli, pipelines.recipes as r, pipelines.products as p\n"
        "from pipelines.artifacts.run import Planner; from pipelines.artifacts.store import Store\n"
        "from pathlib import Path\n"
        "p.full(r.demo(), Planner(Store(Path('/nonexistent'))))\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_pretraining_imports_on_a_bare_gpu_image() -> None:
    allowed = {"torch", "numpy", "transformers", "safetensors", "pydantic", *sys.stdlib_module_names, *ROOMS}
    optional = {"bitsandbytes", "deepspeed", "lion_pytorch"}  # inside functions, when a config names what they hold
    for path in [*(ROOT / "pipelines" / "pretraining").glob("*.py"), ROOT / "pipelines" / "tokens" / "loader.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                within = optional if node.col_offset else set()
                assert name.split(".")[0] in allowed | within, f"{path}: {name}"


def test_nothing_loads_a_pickle_or_foreign_code() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("pickle.load", "pickle.loads", "torch.load", "eval", "exec"), f"{path}: {called}"
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                assert isinstance(node.value, ast.Constant) and node.value.value is False, path


def test_prefect_is_met_only_in_tasks_flows_and_deployments() -> None:
    for path in (ROOT / "pipelines").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) prefect\b", path.read_text(), re.MULTILINE), path


def test_the_readme_names_every_stage_and_every_file() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in STAGES:
        assert re.search(rf"^\| `{name}[`.]", readme, re.MULTILINE), f"README: the stage table lacks {name}"
    assert updated(readme) == readme, "README: the file tree is old; make readme"


def test_the_packages_of_the_distribution_are_all_listed() -> None:
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for room in ROOMS for path in (ROOT / room).rglob("__init__.py")
    }
    assert listed == found
