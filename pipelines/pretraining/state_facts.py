"""What the state of a finished run must share with a run that goes on from it: told by their configs, without torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.artifacts.errors import UserError
from pipelines.models.options import PLAIN
from pipelines.pretraining.objectives import objective_of
from pipelines.pretraining.pretrain import PretrainConfig

FACTS = "state.json"
BEFORE = {"architecture": "llama", "objective": "causal", "options": PLAIN.identity()}
"""What a state is of that does not say: there was one architecture, and one objective, when it was written."""


def model_facts(config: PretrainConfig) -> dict[str, Any]:
    """Return what decides a state's tensors, as JSON values."""
    return {
        "size": config.size,
        "architecture": config.architecture,
        "objective": objective_of(config.objective, config.architecture),
        "options": config.options.identity(),
        "optimizer": config.optimizer,
    }


def check_facts(stored: Mapping[str, Any], facts: Mapping[str, Any], name: str = "init_from") -> None:
    """Raise UserError with the first of the facts that is another in the state; `name` is what the state is called."""
    known = BEFORE | dict(stored)
    for fact, wanted in facts.items():
        if known.get(fact) != wanted:
            raise UserError(f"{name}: its {fact} is {known.get(fact)!r} and this run's is {wanted!r}; use the same")


def check_goes_on_from(state: Path, config: PretrainConfig, name: str) -> None:
    """Raise UserError where the state of a finished run is of another model than the config's."""
    try:
        stored = json.loads((state / FACTS).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: its state in {str(state)!r} cannot be read ({error}); build that run again") from None
    check_facts(stored, model_facts(config), name)
