"""The objectives of pre-training as rows of one table, without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from pipelines.models.architectures import ARCHITECTURES, Kind, known_in


@dataclass(frozen=True)
class ObjectiveRow:
    """Which models can learn by an objective, and what it adds to their vocabulary."""

    kind: Kind
    """The kind of model that it is for."""
    predicts: str
    """What is predicted, and from what."""
    extra_ids: int = 0
    """Ids behind those of the tokenizer, which stand for what is left out of a text."""


OBJECTIVES: Mapping[str, ObjectiveRow] = {
    "causal": ObjectiveRow("causal", "each token from those before it"),
    "masked": ObjectiveRow("masked", "tokens that were hidden from those on both sides", extra_ids=1),
}

DEFAULTS: Mapping[Kind, str] = {"causal": "causal", "masked": "masked"}
"""What a kind of model learns by where nothing is said."""


def objective_of(objective: str | None, architecture: str) -> str:
    """Return the objective's name; where there is none, that of the architecture's kind."""
    return objective or DEFAULTS[ARCHITECTURES[architecture].kind]


def known_objective(name: str) -> str:
    """Return the name of a row; raise ValueError with the nearest one, or all, where there is none."""
    return known_in(OBJECTIVES, "objective", name)


ObjectiveName = Annotated[
    str, AfterValidator(known_objective), WithJsonSchema({"type": "string", "enum": list(OBJECTIVES)})
]
"""The name of a row, as a field of a config."""
