from itertools import product

import pytest
import torch

from pipelines.models.architectures import ARCHITECTURES
from pipelines.models.build import AUTO, build, model_config
from pipelines.models.counting import count_parameters, flops_per_token
from pipelines.models.sizes import SIZES, SizeName


@pytest.mark.parametrize(("architecture", "name"), list(product(ARCHITECTURES, SIZES)))
@pytest.mark.parametrize("vocab_size", [262, 8192])
def test_the_parameters_counted_from_the_rows_are_those_of_the_built_model(
    architecture: str, name: SizeName, vocab_size: int
) -> None:
    with torch.device("meta"):
        config = model_config(name, vocab_size, 512, architecture=architecture)
        model = AUTO[ARCHITECTURES[architecture].kind].from_config(config)
    counted = count_parameters(name, vocab_size, architecture=architecture, max_length=512)
    assert counted == sum(weight.numel() for weight in model.parameters())


def test_the_sizes_are_what_their_names_promise() -> None:
    assert 0.2e6 < count_parameters("tiny", 512) < 0.4e6
    assert 5e6 < count_parameters("demo", 8192) < 8e6
    assert 120e6 < count_parameters("small", 50_000) < 128e6
    assert 0.9e9 < count_parameters("base", 50_000) < 1.2e9


@pytest.mark.parametrize("length", [32, 200])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_operations_of_a_token_are_those_that_torch_counts(architecture: str, length: int) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    vocab_size = 262
    model = build("tiny", vocab_size, length, architecture=architecture)
    row, size = ARCHITECTURES[architecture], SIZES["tiny"]
    stacks = (model.encoder, model.decoder) if row.kind == "seq2seq" else (model,)
    for stack in stacks:
        stack.config._attn_implementation = "eager"  # the counter sees plain products only
        stack.config._experts_implementation = "eager"
    ids = torch.zeros(1, length, dtype=torch.long)
    decoded = {"decoder_input_ids": ids} if row.kind == "seq2seq" else {}
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, **decoded).logits.sum().backward()
    hidden = size.n_layer * length // 2  # eager computes the upper half of the scores too, and those beyond a window
    if row.kind in ("masked", "blank-filling"):
        hidden = (length - min(length, row.window + 1)) if row.window else 0
    unseen = 12 * size.d_model * hidden
    ours = flops_per_token("tiny", vocab_size, length, architecture=architecture) + unseen
    assert counter.get_total_flops() / length == pytest.approx(ours, rel=0.01)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_model_built_twice_from_one_seed_is_the_same(architecture: str) -> None:
    first, second = (
        torch.manual_seed(3) and build("tiny", 262, 64, architecture=architecture).state_dict() for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
