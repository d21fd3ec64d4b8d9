"""Settings and recipe files: what they change, what they refuse, and that a printed recipe is a recipe."""

from pathlib import Path

import pytest

from pipelines.artifacts.errors import UserError
from pipelines.recipes import as_yaml, demo, load_recipe, smoke
from pipelines.settings import parse_setting, with_settings


def test_own_files_for_crawl_and_examples_are_a_recipe_and_are_printed_as_one(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "from: smoke\n"
        "examples: {source: {kind: jsonl, instructions: i.jsonl, preferences: p.jsonl, questions: q.jsonl}}\n"
        f"ingest: {{source: {{kind: jsonl, path: {tmp_path / 'pages.jsonl'}, text_field: body}}}}\n"
    )
    config = load_recipe(str(tmp_path / "mine.yaml"))
    assert config.examples.source.kind == "jsonl" and config.ingest.source.kind == "jsonl"
    (tmp_path / "again.yaml").write_text("from: smoke\n" + as_yaml(config))
    assert load_recipe(str(tmp_path / "again.yaml")) == config


def test_documents_of_objects_need_the_objects(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("from: smoke\nexamples: {source: {kind: jsonl}}\n")
    with pytest.raises(UserError, match=r"set examples\.source to docs"):
        load_recipe(str(tmp_path / "mine.yaml"))


def test_a_part_of_a_config_changes_only_what_it_names() -> None:
    changed = with_settings(smoke(), {"pretrain": {"lr": 0.001}, "sft.lora.rank": 4})
    assert changed.pretrain == smoke().pretrain.model_copy(update={"lr": 0.001})
    assert changed.sft.lora.rank == 4 and changed.sft.max_steps == smoke().sft.max_steps


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=3", 3),
        ("a.b=1e-3", "1e-3"),
        ("a.b=true", True),
        ("a.b=[x, y]", ["x", "y"]),
        ("a.b=2024-13-45", "2024-13-45"),
    ],
)
def test_a_value_is_read_as_yaml_or_else_as_text(text: str, value: object) -> None:
    assert parse_setting(text) == ("a.b", value)


def test_a_number_in_scientific_notation_is_a_number() -> None:
    assert with_settings(demo(), dict([parse_setting("pretrain.lr=1e-3")])).pretrain.lr == 1e-3


@pytest.mark.parametrize("value", ["010", "-07", "1:30"])
def test_a_number_to_another_base_is_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="base 8 or 60"):
        parse_setting(f"ingest.max_documents={value}")
    (tmp_path / "mine.yaml").write_text(f"from: smoke\ningest: {{max_documents: {value}}}\n")
    with pytest.raises(UserError, match="base 8 or 60"):
        load_recipe(str(tmp_path / "mine.yaml"))


def test_an_anchor_bomb_and_endless_nesting_are_refused_in_one_short_line(tmp_path: Path) -> None:
    bomb = "[&b0 [q, q]" + "".join(f", &b{level} [{', '.join([f'*b{level - 1}'] * 9)}]" for level in range(1, 30)) + "]"
    for text in (f"language: {{min_score: {bomb}}}", f"samples: {'[' * 5_000}"):
        (tmp_path / "mine.yaml").write_text(f"from: smoke\nfilter: {{{text}}}\n")
        with pytest.raises(UserError) as caught:
            load_recipe(str(tmp_path / "mine.yaml"))
        assert len(str(caught.value)) < 500
    assert parse_setting(f"a.b={'[' * 5_000}")[1] == "[" * 5_000


@pytest.mark.parametrize("text", ["? [a]\n: 1\n", "when: 2024-13-45\n", "a: &x [*x]\n", "\x00"])
def test_yaml_that_is_no_recipe_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load_recipe(str(tmp_path / "mine.yaml"))
    assert "\n" not in str(caught.value)


def test_settings_that_fit_only_together_are_taken_in_any_order() -> None:
    mesh = {"nodes": 2, "rendezvous_endpoint": "node-0:29500", "tensor_parallel_degree": 2, "processes": 4}
    for order in (list(mesh), list(reversed(mesh))):
        parallel = with_settings(smoke(), {f"pretrain.parallel.{name}": mesh[name] for name in order}).pretrain.parallel
        assert (parallel.nodes, parallel.shards, parallel.tensor_parallel_degree) == (2, 2, 2)
    with pytest.raises(UserError, match=r"tensor_parallel_degree: processes: 2 does not divide by 4"):
        with_settings(smoke(), {"pretrain.parallel.tensor_parallel_degree": 4, "pretrain.parallel.processes": 2})
