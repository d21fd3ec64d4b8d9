"""The objectives of pre-training as rows of one table, without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from pipelines.models.architectures import ARCHITECTURES, Kind, known_in

SENTINELS = 100
"""Spans that a window can lack at most: each has an id of its own, as in T5's vocabulary."""
INNER_PLACES = 64
"""Places in a span that blank infilling tells apart; the tokens of a longer span share the last."""


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
    "prefix_lm": ObjectiveRow("causal", "what follows a prefix, whose tokens see each other on both sides"),
    "span_corruption": ObjectiveRow(
        "seq2seq", "spans that were left out from what is left, by another stack", extra_ids=SENTINELS
    ),
    "blank_infilling": ObjectiveRow(
        "blank-filling", "spans that were left out, in any order, behind what is left", extra_ids=2 + INNER_PLACES
    ),
}

DEFAULTS: Mapping[Kind, str] = {
    "causal": "causal",
    "masked": "masked",
    "seq2seq": "span_corruption",
    "blank-filling": "blank_infilling",
}
"""What a kind of model learns by where nothing is said."""


@dataclass(frozen=True)
class Work:
    """How many positions a model computes for a token that is read, and how many of them it predicts from.

    Of two stacks the first computes the former, and the second the latter.
    """

    computed: float = 1.0
    predicted: float = 1.0


def work_of(objective: str, sequence_length: int, mask_share: float, span_length: float) -> Work:
    """Return the work of an objective on whole windows."""
    if objective == "masked":
        return Work(predicted=mask_share)
    if objective == "prefix_lm":
        return Work(predicted=0.5)  # on average
    hidden, spans = gaps(sequence_length, mask_share, span_length)
    if objective == "blank_infilling":
        return Work((sequence_length + 2 * spans) / sequence_length, (hidden + spans) / sequence_length)
    if objective == "span_corruption":
        return Work((sequence_length - hidden + spans) / sequence_length, (hidden + spans + 1) / sequence_length)
    return Work()


def gaps(tokens: int, share: float, span_length: float) -> tuple[int, int]:
    """Return how many tokens of so many are left out, and in how many spans; one token alone is never."""
    hidden = min(max(round(tokens * share), 1), max(tokens - 1, 0))
    return hidden, min(max(round(hidden / span_length), 1), hidden, tokens - hidden + 1)


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
