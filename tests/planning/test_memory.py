"""A model that cannot fit is refused before anything starts, with what would fit."""

from collections.abc import Mapping
from typing import Any

import pytest

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.run import Planner
from pipelines.artifacts.store import Store
from pipelines.models.sizes import SIZES
from pipelines.planning import forecast
from pipelines.planning.machine import Machine, this_machine
from pipelines.planning.memory import check_fits, estimate, least_memory
from pipelines.pretraining.pretrain import PretrainConfig
from pipelines.products import PRODUCTS
from pipelines.recipes import smoke
from pipelines.settings import with_settings
from tests.planning.conftest import TINY, VOCABULARY, Measured

GIB = float(1 << 30)


@pytest.mark.parametrize(
    ("changes", "memory", "remedy"),
    [
        ({"size": "small", "sequence_length": 1024, "micro_batch": 64, "global_batch": 64}, 16, "micro_batch to 16"),
        ({"size": "small", "sequence_length": 8192, "micro_batch": 1}, 5, "activation_checkpointing to true"),
        ({"size": "base", "micro_batch": 1, "device": "cuda"}, 12, "processes to 4, a GPU each"),
        ({"size": "base", "micro_batch": 1}, 12, "set pretrain.size to 'small'"),
        ({"size": "base", "micro_batch": 1}, 0.1, "take a machine with more memory"),
    ],
)
def test_what_cannot_fit_is_refused_with_what_would(changes: Mapping[str, object], memory: float, remedy: str) -> None:
    config = PretrainConfig(**{"global_batch": 32, **changes})
    with pytest.raises(UserError, match=remedy) as refused:
        check_fits(config, 32_768, memory * GIB)
    assert f"this machine has {memory:.1f}" in str(refused.value)


def test_what_fits_is_not_refused() -> None:
    check_fits(TINY, VOCABULARY, 1 * GIB)
    check_fits(PretrainConfig(size="small", micro_batch=1), 32_768, 16 * GIB)


def test_what_was_measured_decides_where_it_is_known() -> None:
    with pytest.raises(UserError, match=r"takes 3\.0 GiB and this machine has 2\.0; set pretrain.micro_batch to 2"):
        check_fits(PretrainConfig(size="demo", sequence_length=8192, micro_batch=4), 4096, 2 * GIB, 3 * GIB)


def test_the_estimate_is_near_what_is_measured_and_the_least_below_it(measured: Measured) -> None:
    taken = measured.calibration.memory_bytes
    assert least_memory(TINY, VOCABULARY) < taken
    assert estimate(TINY, VOCABULARY) == pytest.approx(taken, rel=0.5)


ALONE_BASE = {"size": "base", "micro_batch": 1, "global_batch": 8, "device": "cuda", "publish": "last"}


@pytest.mark.parametrize(
    ("mesh", "bytes_a_weight"),
    [
        ({}, 4 + 4 + 8 + 4 + 8),
        ({"data_parallel_shard_degree": 4}, (4 + 4 + 8 + 4 + 8) / 4),
        ({"data_parallel_replicate_degree": 4}, 4 + 4 + 8 + 4 + 8),
        ({"tensor_parallel_degree": 4}, (4 + 4 + 8 + 4 + 8) / 4),
        ({"engine": "deepspeed", "zero_stage": 1}, 4 + 4 + 8 / 4 + 4 + 8 / 4),
        ({"engine": "deepspeed", "zero_stage": 2}, 4 + 4 / 4 + 8 / 4 + 4 + 8 / 4),
        ({"engine": "deepspeed", "zero_stage": 3}, (4 + 4 + 8 + 4 + 8) / 4),
    ],
    ids=str,
)
def test_a_process_takes_of_the_weights_what_the_mesh_leaves_it(mesh: dict[str, Any], bytes_a_weight: float) -> None:
    parallel = {"processes": 4 if mesh else 1, **mesh}
    longer, shorter = (
        estimate(PretrainConfig.model_validate({**ALONE_BASE, "parallel": parallel}), vocabulary)
        for vocabulary in (34_000, 33_000)
    )
    more = 1000 * SIZES["base"].d_model
    assert longer - shorter == pytest.approx(more * bytes_a_weight)


def test_a_run_that_cannot_fit_is_refused_before_anything_starts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    config = with_settings(smoke(), {"pretrain": {"size": "base", "global_batch": 512, "micro_batch": 512}})
    planner = Planner(store)
    PRODUCTS["full"].wire(config, planner)
    forecast.refuse_what_cannot_fit(planner, config, only={"tokenizer"})
    little = Machine(**{**vars(this_machine()), "memory_bytes": 8 << 30})
    monkeypatch.setattr(forecast, "this_machine", lambda: little)
    with pytest.raises(UserError, match=r"this machine has 8\.0"):
        forecast.refuse_what_cannot_fit(planner, config)
