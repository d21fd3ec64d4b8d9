"""`--set path=value` and recipe files: one change at a time, checked, with a suggestion for what is mistyped."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipelines.artifacts.errors import UserError
from pipelines.secret_values import refuse_secrets

C = TypeVar("C", bound=BaseModel)
LONGEST_NAME = 100
"""No value that a setting allows by name is longer."""
MAX_RECIPE_BYTES = 1 << 20
"""A recipe is some hundred lines; a YAML file beyond this is something else."""


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is given twice, which YAML would silently let win."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        name = loader.construct_object(key)
        if name in seen:
            raise UserError(f"recipe: {name!r} is given twice (line {key.start_mark.line + 1}); keep one")
        seen.add(name)
    return loader.construct_mapping(node, deep=True)


def _integer(loader: _UniqueKeys, node: yaml.ScalarNode) -> int:
    if re.match(r"[-+]?0[0-9_]|.*:", str(node.value)):
        raise UserError(f"{node.value!r}: YAML reads it to the base 8 or 60; write a plain number, or text in quotes")
    return int(loader.construct_yaml_int(node))


_UniqueKeys.add_constructor("tag:yaml.org,2002:int", _integer)
_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_yaml(path: Path) -> dict[str, Any]:
    """Return a recipe file's mapping; raise UserError where it is none."""
    try:
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise UserError(f"recipe: {str(path)!r} is over 1 MiB, which no recipe is; name a recipe file")
        loaded = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except (OSError, TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = str(error).replace("\n", " ")
        raise UserError(f"recipe: {str(path)!r} cannot be read ({reason}); give a YAML file") from error
    if not isinstance(loaded, dict):
        raise UserError(f"recipe: {str(path)!r} holds no mapping of stages; see gristmill recipe demo")
    return loaded


def with_settings(config: C, changes: Mapping[str, Any]) -> C:
    """Return the config with the fields at these dotted paths changed and everything checked again.

    What fits only beside another change, a degree of a mesh beside its processes, is tried again behind it.
    """
    refuse_secrets(changes)
    # The crawl before the examples: documents made of the examples' objects allow no other examples.
    left = sorted(changes.items(), key=lambda change: change[0].split(".")[0] != "ingest")
    while left:
        refused: list[tuple[str, Any]] = []
        errors: list[UserError] = []
        for path, value in left:
            try:
                config = _changed(config, path, path.split("."), value)
            except UserError as error:
                refused.append((path, value))
                errors.append(error)
        if len(refused) == len(left):
            raise errors[0]
        left = refused
    return config


def parse_setting(text: str) -> tuple[str, Any]:
    """Return path and value of `path=value`; the value is read as YAML, so `true`, `null` and `[a, b]` work."""
    path, equals, raw = text.partition("=")
    if not equals or not path:
        raise UserError(f"--set: {text!r} is no setting; write --set STAGE.FIELD=VALUE, as in --set sft.max_steps=200")
    try:
        value = yaml.load(raw, Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError):  # a date that no calendar has is a ValueError
        value = raw
    return path, value


def _other_kind(current: BaseModel, value: Mapping[Any, Any]) -> bool:
    """Say whether a mapping names another member of the union that `current` is one of: it then stands for itself."""
    kind = getattr(current, "kind", None)
    return bool(value.get("kind", kind) != kind)


def _changed(config: C, full: str, path: list[str], value: Any) -> C:
    name, *rest = path
    known_field(type(config), name, full)
    current = getattr(config, name)
    if rest:
        if not isinstance(current, BaseModel):
            raise UserError(f"{full}: {name!r} has no fields of its own; set {full.rsplit('.', 1)[0]} instead")
        value = _changed(current, full, rest, value)
    elif isinstance(current, BaseModel) and isinstance(value, Mapping) and not _other_kind(current, value):
        value = with_settings(current, {str(inner): item for inner, item in value.items()})
    fields = {other: getattr(config, other) for other in type(config).model_fields}
    return checked(type(config), {**fields, name: value}, full.rsplit(f".{'.'.join(rest)}", 1)[0] if rest else full)


def known_field(model: type[BaseModel], name: str, full: str) -> None:
    """Raise UserError with a suggestion when the model has no field of this name."""
    if name in model.model_fields:
        return
    near = get_close_matches(name, model.model_fields, n=1, cutoff=0.5)
    hint = f"did you mean {full.replace(name, near[0])!r}?" if near else f"there are {', '.join(model.model_fields)}"
    raise UserError(f"{full}: there is no field {name!r}; {hint}")


def checked(model: type[C], fields: Mapping[str, Any], where: str) -> C:
    """Return the model of these fields; raise UserError with the first wrong field, its value and bounds."""
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        inner = [str(part) for part in first["loc"]]
        stem = where.split(".")
        place = ".".join(stem + (inner[1:] if inner[:1] == stem[-1:] else inner))
        message = first["msg"].removeprefix("Value error, ")
        shown = f"{first['input']!r}: " if isinstance(first["input"], str | int | float | None) else ""
        raise UserError(f"{place}: {shown}{message[:1].lower()}{message[1:]}{_nearest(first)}") from error


def _nearest(error: ErrorDetails) -> str:
    """Return a question for the allowed value that is nearest to the one given, where there is one."""
    given = error["input"]
    if not isinstance(given, str) or len(given) > LONGEST_NAME:
        return ""
    allowed = re.findall(r"'([^']+)'", str(error.get("ctx", {}).get("expected", "")))
    near = get_close_matches(given, allowed, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
