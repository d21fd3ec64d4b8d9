"""What the whole chain promises, on the finished smoke run."""

import json
from pathlib import Path

import pytest

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.run import LocalRun, Planner
from pipelines.artifacts.store import Store
from pipelines.config import FullConfig
from pipelines.products import PRODUCTS, full, part_of
from pipelines.recipes import RECIPES, smoke
from pipelines.settings import with_settings
from tests.conftest import Finished

FUNNEL = ("examples", "ingest", "annotate", "filter", "dedup", "decontaminate", "shard")


def test_a_second_run_is_all_hits_and_a_reordered_config_too(smoke_run: Finished) -> None:
    again = LocalRun(smoke_run.store)
    full(FullConfig.model_validate(json.loads(smoke().model_dump_json())), again)
    assert all(result.hit for result in again.results)


@pytest.mark.parametrize("node", FUNNEL)
def test_documents_in_are_kept_plus_the_sum_of_reasons(node: str, smoke_run: Finished) -> None:
    metrics = smoke_run.results[node].manifest.metrics
    dropped = sum(value for name, value in metrics.items() if name.startswith("dropped."))
    assert metrics["in"] == metrics["kept"] + dropped
    assert metrics["kept"] > 0


def test_the_contract_is_one_digest_from_fine_tuning_to_the_bundle(smoke_run: Finished) -> None:
    digests = {
        json.loads((smoke_run.results[node].path / "model" / "contract.json").read_text())["digest"]
        for node in ("sft", "reward", "align", "distill", "quantize.int8", "quantize.int4")
    }
    bundle = json.loads((smoke_run.results["package"].path / "bundle" / "bundle.json").read_text())
    assert digests == {bundle["contract"]}


def test_nothing_published_is_a_pickle(smoke_run: Finished) -> None:
    names = {Path(name).name for result in smoke_run.results.values() for name in result.manifest.files}
    suffixes = {name.rsplit(".", 1)[-1] for name in names if not name.startswith("events.out.tfevents.")}
    known = "json jsonl parquet safetensors bin idx ds index metadata gz jinja md html"
    assert suffixes <= set(known.split()), suffixes


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_validates_and_each_product_takes_its_part(name: str) -> None:
    config = RECIPES[name]()
    for product in PRODUCTS.values():
        assert isinstance(part_of(product.config, config), product.config)


def test_a_benchmark_that_is_scored_must_be_searched_for_in_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "mmlu.jsonl").write_text('{"question": "a", "choices": ["b", "c"], "answer": 0}\n')
    scored = {"evaluate.base.tasks": ["mmlu"], "evaluate.base.mirror": tmp_path}
    with pytest.raises(UserError, match=r"decontaminate\.mirror"):
        full(with_settings(smoke(), scored), Planner(Store(Path("nowhere"))))
    full(with_settings(smoke(), scored | {"decontaminate.mirror": tmp_path}), Planner(Store(Path("nowhere"))))


def test_grpo_needs_the_reward_model_and_gets_it() -> None:
    def needs_of_align(changes: dict[str, object]) -> tuple[str, ...]:
        planner = Planner(Store(Path("nowhere")))
        full(with_settings(smoke(), changes), planner)
        assert ("reward" in {row.node for row in planner.rows}) == (
            changes["align.method"] == "grpo" or changes["reward.always"]
        )
        return next(row.needs for row in planner.rows if row.node == "align")

    assert "reward" in needs_of_align({"align.method": "grpo", "reward.always": False})
    assert "reward" not in needs_of_align({"align.method": "dpo", "reward.always": True})
    assert "reward" not in needs_of_align({"align.method": "dpo", "reward.always": False})
