from typing import Any

import pytest
import torch

from pipelines.models.build import build
from pipelines.pretraining.compiling import compile_blocks, is_compiled
from pipelines.pretraining.losses import causal_cross_entropy
from pipelines.pretraining.settings import LoopConfig


@pytest.mark.parametrize(("compile", "expected"), [("always", True), ("never", False), ("auto", False)])
def test_a_short_run_is_compiled_only_when_asked(compile: Any, expected: bool) -> None:
    assert is_compiled(LoopConfig(max_steps=10, compile=compile), build("tiny", 262, 16)) is expected


def test_a_long_run_is_compiled_by_itself() -> None:
    with torch.device("meta"):
        model = build("compact", 8192, 512)
    steps = [10, 100, 1000, 10_000]
    runs = [LoopConfig(sequence_length=512, global_batch=8, max_steps=count) for count in steps]
    assert [is_compiled(run, model) for run in runs] == [False, False, True, True]


def test_device_and_micro_batch_do_not_decide_whether_a_run_is_compiled() -> None:
    assert "compile" not in LoopConfig.runtime
    model = build("tiny", 262, 16)
    long = LoopConfig(max_steps=10**6)
    assert is_compiled(long, model)
    assert is_compiled(long.model_copy(update={"device": "cuda", "micro_batch": 1, "threads": 7}), model)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler stirs up deprecated corners of torch itself
def test_one_compiled_block_does_for_all_and_computes_the_same(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.utils import counters

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    ids = torch.randint(6, 262, (2, 65), generator=torch.Generator().manual_seed(0))
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = build("smoke", 262, 64, attention="blockwise")
        if compiled:
            counters.clear()
            compile_blocks(model)
        loss = causal_cross_entropy(model, ids[:, :-1], ids[:, 1:])
        found.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    for eager, compiled_one in zip(*found, strict=True):
        torch.testing.assert_close(eager, compiled_one, atol=1e-4, rtol=1e-4)
    assert counters["stats"]["unique_graphs"] == 1 and any(tmp_path.iterdir())
