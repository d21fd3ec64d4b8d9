"""The form of every flow: what Prefect's UI draws it from is complete, in words, and refuses what no run may get."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.importtools import import_object
from prefect.utilities.schema_tools import is_valid_schema, validate

from deployments.catalog import NAMES, ROWS
from deployments.flow_run import FLOWS
from pipelines.artifacts.form import bounds, title_of
from pipelines.artifacts.stage import StageConfig
from pipelines.products import PRODUCTS, part_of
from pipelines.recipes import demo
from pipelines.settings import with_settings

Schema = dict[str, Any]


@cache
def schema_of(flow: str) -> Schema:
    entrypoint = FLOWS.get(flow) or next(row.entrypoint for row in ROWS if row.name == flow)
    return parameter_schema(import_object(entrypoint.replace(":", "."))).model_dump()


def resolved(part: Schema, schema: Schema) -> Schema:
    """Return the part as the UI sees it: what stands beside a reference wins over what is referred to."""
    if "$ref" not in part:
        return part
    return schema["definitions"][part["$ref"].rsplit("/", 1)[-1]] | part


def fields_of(flow: str) -> Iterator[tuple[str, Schema, Schema]]:
    """Yield every field of the form by its model and name, with the model."""
    schema = schema_of(flow)
    for model in schema["definitions"].values():
        for name, field in model["properties"].items():
            yield f"{model['title']}: {name}", resolved(field, schema), model


every_flow = pytest.mark.parametrize("flow", sorted({*FLOWS, *NAMES}))


@every_flow
def test_every_field_has_a_title_a_description_and_a_default_or_is_asked_for(flow: str) -> None:
    for place, field, model in fields_of(flow):
        name = place.split(": ")[-1]
        assert field["title"] and field["title"][0] == field["title"][0].upper(), place
        assert "_" not in field["title"] and "Config" not in field["title"], f"{place} is titled {field['title']!r}"
        assert field["description"].endswith((".", "!", "?")), f"{place}: {field['description']!r} is no sentence"
        assert "default" in field or name in model.get("required", ()), place


@every_flow
def test_every_model_is_titled_in_words_and_described(flow: str) -> None:
    for name, model in schema_of(flow)["definitions"].items():
        assert model["title"] != name and not model["title"].endswith(("Config", "Source", "Rules", "Nodes")), model[
            "title"
        ]
        assert model["description"].strip(), name


@every_flow
def test_every_bound_is_told_and_every_choice_is_a_list(flow: str) -> None:
    for place, field, _ in fields_of(flow):
        if said := bounds(field):
            assert f"({said})" in field["description"], place
        assert "const" not in field, f"{place}: a form shows a constant as free text"


@every_flow
def test_every_member_of_a_union_has_a_name_and_no_two_the_same(flow: str) -> None:
    schema = schema_of(flow)
    for place, field, _ in fields_of(flow):
        titles = [resolved(kind, schema)["title"] for kind in field.get("anyOf", field.get("oneOf", ()))]
        assert len(set(titles)) == len(titles), f"{place}: {titles}"


@every_flow
def test_the_recipe_is_the_default_and_passes_the_schema_that_the_api_checks(flow: str) -> None:
    schema = schema_of(flow)
    is_valid_schema(schema)  # or it raises
    product = PRODUCTS["full" if flow == "stage" else flow]
    recipe = part_of(product.config, demo()).model_dump(mode="json")
    assert schema["properties"]["config"]["default"] == recipe
    others = {name: part["enum"][0] for name, part in schema["properties"].items() if name != "config"}
    assert not validate({"config": recipe, **others}, schema, raise_on_error=False)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("pretrain.max_steps", 0),
        ("pretrain.lr", 0),
        ("pretrain.lr", "fast"),
        ("pretrain.optimizer", "sgd"),
        ("pretrain.steps", 5),
        ("dedup.threshold", 1.5),
        ("ingest.source", {"kind": "ftp", "path": "x"}),
        ("quantize.int4.bits", 3),
    ],
)
def test_the_schema_refuses_what_the_config_refuses(path: str, value: object) -> None:
    config = part_of(PRODUCTS["full"].config, demo()).model_dump(mode="json")
    *parts, last = path.split(".")
    place = config
    for part in parts:
        place = place[part]
    place[last] = value
    with pytest.raises(ValueError):
        PRODUCTS["full"].config.model_validate(config)
    errors = validate({"config": config}, schema_of("full"), raise_on_error=False)
    assert errors, path


def test_titles_change_no_identity() -> None:
    class Plain(StageConfig):
        max_urls: int = 3

    assert Plain().identity() == {"max_urls": 3}
    assert Plain.model_json_schema()["properties"]["max_urls"]["title"] == "Max URLs"
    assert with_settings(Plain(), {"max_urls": 4}).max_urls == 4


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("first_wait_seconds", "First wait (seconds)"),
        ("lr", "Learning rate"),
        ("max_duplicate_5_gram_char_ratio", "Max duplicate 5-gram character ratio"),
        ("memory_gb_per_cpu", "Memory GB per CPU"),
        ("sft", "SFT"),
    ],
)
def test_a_name_becomes_words(name: str, title: str) -> None:
    field = next(iter(PRODUCTS["full"].config.model_fields.values()))
    assert title_of(name, field) == title


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 1000}, "1 to 1,000"),
        ({"type": "integer", "minimum": 0, "exclusiveMaximum": 2**32}, "0 to 4,294,967,295"),
        ({"type": "integer", "exclusiveMinimum": 0}, "at least 1"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "above 0, at most 1"),
        ({"type": "number", "minimum": 0, "maximum": 1}, "0 to 1"),
        ({"type": "number", "maximum": 2.5}, "at most 2.5"),
        ({"type": "number"}, ""),
        ({"type": "string", "maxLength": 3}, ""),
    ],
)
def test_bounds_are_told_as_a_person_would(schema: Schema, said: str) -> None:
    assert bounds(schema) == said
