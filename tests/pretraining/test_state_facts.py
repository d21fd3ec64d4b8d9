"""A state goes on in a run of the same kind of model; one that does not say its kind is of the time with one kind."""

import json
from pathlib import Path

import pytest

from pipelines.artifacts.errors import UserError
from pipelines.models.options import ModelOptions
from pipelines.pretraining.pretrain import PretrainConfig
from pipelines.pretraining.state_facts import check_goes_on_from, model_facts

OWN = PretrainConfig(size="tiny")


def written(folder: Path, **facts: object) -> Path:
    (folder / "state.json").write_text(json.dumps({"step": 3, **facts}))
    return folder


def test_a_state_that_names_no_architecture_is_a_llama_s(tmp_path: Path) -> None:
    state = written(tmp_path, size="tiny", optimizer="adamw")
    check_goes_on_from(state, OWN, "state")
    with pytest.raises(UserError, match="state: its architecture is 'llama' and this run's is 'qwen3'; use the same"):
        check_goes_on_from(state, OWN.model_copy(update={"architecture": "qwen3"}), "state")


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"size": "smoke"}, "size"),
        ({"architecture": "gpt2"}, "architecture"),
        ({"objective": "prefix_lm"}, "objective"),
        ({"options": ModelOptions(tied=False)}, "options"),
        ({"optimizer": "lion"}, "optimizer"),
    ],
)
def test_a_state_of_another_kind_is_refused_by_what_differs(
    changes: dict[str, object], fact: str, tmp_path: Path
) -> None:
    state = written(tmp_path, **model_facts(OWN))
    with pytest.raises(UserError, match=f"^state: its {fact} is "):
        check_goes_on_from(state, OWN.model_copy(update=changes), "state")


def test_a_state_that_cannot_be_read_is_said_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"state: its state in .* cannot be read .*; build that run again"):
        check_goes_on_from(tmp_path, OWN, "state")
