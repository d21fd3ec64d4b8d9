import pytest
import torch
from transformers import LlamaForCausalLM

from pipelines.models.build import build, llama_config
from pipelines.models.sizes import SIZES, SizeName, count_parameters, flops_per_token


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("vocab_size", [262, 8192])
def test_the_parameters_counted_from_a_row_are_those_of_the_built_model(name: SizeName, vocab_size: int) -> None:
    with torch.device("meta"):
        model = LlamaForCausalLM(llama_config(name, vocab_size, 512))
    assert count_parameters(name, vocab_size) == sum(weight.numel() for weight in model.parameters())


def test_the_sizes_are_what_their_names_promise() -> None:
    assert 0.2e6 < count_parameters("tiny", 512) < 0.4e6
    assert 5e6 < count_parameters("demo", 8192) < 8e6
    assert 120e6 < count_parameters("small", 50_000) < 128e6
    assert 0.9e9 < count_parameters("base", 50_000) < 1.2e9


def test_the_operations_of_a_token_are_those_that_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    length, vocab_size = 32, 262
    model = build("tiny", vocab_size, length)
    model.config._attn_implementation = "eager"  # the counter sees plain products only
    ids = torch.zeros(1, length, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False).logits.sum().backward()
    whole_attention = 6 * SIZES["tiny"].n_layer * SIZES["tiny"].d_model * length  # eager computes the upper half too
    ours = flops_per_token("tiny", vocab_size, length) + whole_attention
    assert counter.get_total_flops() / length == pytest.approx(ours, rel=0.01)


def test_a_model_built_twice_from_one_seed_is_the_same() -> None:
    first, second = (torch.manual_seed(3) and build("tiny", 262, 64).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
