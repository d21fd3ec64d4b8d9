"""What a stage is: one frozen config, one pure function, one constant."""

import inspect
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue

from pipelines.artifacts.form import said_in_full, title_of
from pipelines.artifacts.pins import Root

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

Metrics = dict[str, float]


class StageConfig(BaseModel):
    """A stage's settings; also the base of every model nested in one.

    Fields named in `runtime` (workers, device, log interval) and in `pinned` (paths whose content enters through
    `roots`) stay out of the stage's key. Every other field is identity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, field_title_generator=title_of)
    runtime: ClassVar[frozenset[str]] = frozenset()
    pinned: ClassVar[frozenset[str]] = frozenset()

    def identity(self) -> dict[str, Any]:
        """Return the fields that decide the output, as JSON values; raise TypeError on what cannot be hashed."""
        left_out = self.runtime | self.pinned
        return {name: _plain(name, getattr(self, name)) for name in type(self).model_fields if name not in left_out}

    def roots(self) -> Mapping[str, Root]:
        """Return the inputs that come from outside the store, by name, each with what pins its content."""
        found: dict[str, Root] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, StageConfig):
                found.update({f"{name}.{inner}": root for inner, root in value.roots().items()})
        return found

    def devices(self) -> tuple[str, ...]:
        """Return the devices that the stage computes on: every field named `device`, here and in nested configs."""
        found: list[str] = []
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, StageConfig):
                found += value.devices()
            elif name == "device":
                found.append(str(value))
        return tuple(found)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: "CoreSchema", handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the model's JSON schema as a form shows it."""
        schema = handler(core)
        parts = handler.resolve_ref_schema(schema)["properties"]
        for name, info in cls.model_fields.items():
            if info.default_factory is not None:
                parts[name]["default"] = info.get_default(call_default_factory=True)
            said_in_full(parts[name])
        return schema


def _plain(name: str, value: Any) -> Any:
    """Return `value` as JSON that is the same in every process, or raise TypeError."""
    if isinstance(value, StageConfig):
        return value.identity()
    if isinstance(value, Enum):
        return _plain(name, value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, tuple | list):
        return [_plain(name, item) for item in value]
    if isinstance(value, frozenset | set):
        return sorted(_plain(name, item) for item in value)
    if isinstance(value, Mapping):
        return {str(key): _plain(name, item) for key, item in value.items()}
    raise TypeError(f"{name}: {value!r} cannot be hashed; make it a number, a string, or a pinned or runtime field")


@dataclass(frozen=True)
class Stage:
    """A stage's name, meaning and function.

    `version` is raised by hand when the stage's meaning changes; the versions of `libraries` and the content of `data`
    enter its key. The function takes its config first, then the paths of its inputs and of `out` by name, and returns
    metrics.
    """

    name: str
    version: int
    run: Callable[..., Metrics]
    libraries: tuple[str, ...] = ()
    resumable: bool = False
    """Keeps progress in its work directory; the others are wiped at start."""
    lineage: bool = False
    """Reads the manifests of its inputs, so their keys enter its own."""
    data: tuple[str, ...] = ()
    """Files of this package that decide the output beside its code: weights, word lists, templates."""
    config: type[StageConfig] = field(init=False)

    def __post_init__(self) -> None:
        first = next(iter(inspect.signature(self.run).parameters))
        object.__setattr__(self, "config", typing.get_type_hints(self.run)[first])
