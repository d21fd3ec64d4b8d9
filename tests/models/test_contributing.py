"""The example of a new architecture in CONTRIBUTING.md: one row and one test, as they stand there."""

import re
from pathlib import Path

import pytest
import torch

from pipelines.models import architectures, build
from pipelines.models.architectures import ARCHITECTURES, Architecture, known_architecture
from pipelines.models.counting import count_parameters
from pipelines.models.sizes import SIZES
from pipelines.pretraining.losses import causal_cross_entropy

TEXT = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROW, TEST = re.findall(r"```python\n(.*?)```", TEXT.split("## Add an architecture")[1].split("## ")[0], re.DOTALL)


def test_the_example_of_contributing_is_an_architecture_like_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: dict[str, Architecture] = eval("{" + ROW + "}", vars(architectures))  # noqa: S307 - our own page
    ((name, row),) = rows.items()
    monkeypatch.setitem(ARCHITECTURES, name, row)
    tests: dict[str, object] = {}
    exec(TEST, {**vars(build), "SIZES": SIZES}, tests)  # noqa: S102 - our own page
    (test,) = tests.values()
    assert callable(test)
    test()

    assert known_architecture(name) == name
    model = build.build("tiny", 262, 32, architecture=name)
    counted = count_parameters("tiny", 262, architecture=name, max_length=32)
    assert counted == sum(weight.numel() for weight in model.parameters())
    ids = torch.randint(6, 262, (2, 33))
    causal_cross_entropy(model, ids[:, :-1], ids[:, 1:]).backward()
    assert all(weight.grad is not None for weight in model.parameters())
