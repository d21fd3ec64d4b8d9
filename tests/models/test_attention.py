from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from pipelines.models.attention import blockwise_attention, document_starts


class Case(NamedTuple):
    """Query, key and value, weights for a sum of the output, and the scale of the scores."""

    query: Tensor
    key: Tensor
    value: Tensor
    weights: Tensor
    scale: float

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.query, self.key, self.value


def case(batch: int, heads: int, key_heads: int, length: int, width: int, dtype: torch.dtype = torch.float32) -> Case:
    torch.manual_seed(length)
    query, key, value = (  # laid out as the projections of a model are
        torch.randn(batch, length, count, width).to(dtype).transpose(1, 2).requires_grad_()
        for count in (heads, key_heads, key_heads)
    )
    return Case(query, key, value, torch.randn(batch, length, heads, width), width**-0.5)


def blockwise(made: Case, position_ids: Tensor | None = None) -> Tensor:
    return blockwise_attention(torch.nn.Module(), *made.inputs, None, made.scale, position_ids=position_ids)[0]


def fused(made: Case, seen: Tensor | None = None) -> Tensor:
    causal = {"is_causal": True} if seen is None else {"attn_mask": seen[:, None]}
    query, key, value = made.inputs
    heads = F.scaled_dot_product_attention(query, key, value, scale=made.scale, enable_gqa=True, **causal)
    return heads.transpose(1, 2)


def with_gradients(made: Case, out: Tensor) -> list[Tensor]:
    return [out, *torch.autograd.grad((out * made.weights).sum(), made.inputs)]


def assert_near(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """Within 3e-6 of 1 or of the largest value: a gradient of a shared key is a sum over hundreds of terms."""
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine - other).abs().max() <= 3e-6 * max(1.0, float(other.detach().abs().max()))


def seen_by_documents(position_ids: Tensor) -> Tensor:
    document = (position_ids == 0).cumsum(1)
    length = position_ids.shape[1]
    return (document[:, :, None] == document[:, None, :]) & torch.ones(length, length, dtype=torch.bool).tril()


def positions(lengths: list[list[int]], length: int) -> Tensor:
    rows = [torch.cat([torch.arange(count) for count in row])[:length] for row in lengths]
    return torch.stack(rows)


@settings(max_examples=30)
@given(
    st.integers(1, 3),
    st.sampled_from([(4, 4), (4, 2), (4, 1), (6, 3), (1, 1)]),
    st.one_of(st.integers(1, 40), st.sampled_from([127, 128, 129, 255, 256, 257, 300])),
    st.sampled_from([2, 32, 64, 128]),
)
def test_blockwise_attention_equals_the_fused_kernel_in_output_and_gradients(
    batch: int, heads: tuple[int, int], length: int, width: int
) -> None:
    made = case(batch, *heads, length, width)
    ours, theirs = with_gradients(made, blockwise(made)), with_gradients(made, fused(made))
    assert_near(ours, theirs)


@settings(max_examples=30)
@given(st.data())
def test_no_token_sees_behind_the_start_of_its_document(data: st.DataObject) -> None:
    length = data.draw(st.sampled_from([1, 30, 128, 200, 300]))
    lengths = [*data.draw(st.lists(st.integers(1, 150), max_size=8)), length]
    position_ids = positions([lengths, [length]], length)
    made = case(2, 4, 2, length, 16)
    ours = with_gradients(made, blockwise(made, position_ids))
    theirs = with_gradients(made, fused(made, seen_by_documents(position_ids)))
    assert_near(ours, theirs)


def test_keys_of_earlier_documents_are_not_even_read() -> None:
    made = case(1, 2, 2, 300, 16)
    made.key.data[:, :, :256] = made.value.data[:, :, :256] = torch.nan
    out = blockwise(made, positions([[256, 44]], 300))
    assert out[:, 256:].isfinite().all() and out[:, :256].isnan().all()


def test_a_document_starts_where_positions_do_not_go_on() -> None:
    given_ids = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 0, 0, 1], [5, 6, 7, 0, 1], [3, 4, 9, 10, 11]])
    expected = [[0, 0, 0, 0, 0], [0, 0, 2, 3, 3], [0, 0, 0, 3, 3], [0, 0, 2, 2, 2]]
    assert document_starts(given_ids).tolist() == expected


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(1, heads, 5, 3, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2)]
    position_ids = torch.tensor([[0, 1, 2, 0, 1]])

    def attention(*given: Tensor) -> Tensor:
        return blockwise_attention(torch.nn.Module(), *given, None, 0.6, position_ids=position_ids)[0]

    assert torch.autograd.gradcheck(attention, inputs)


def test_in_half_precision_it_is_as_near_to_exact_attention_as_two_roundings() -> None:
    rough = case(1, 2, 1, 150, 16, torch.bfloat16)
    exact = Case(*(heads.detach().double().requires_grad_() for heads in rough.inputs), rough.weights, rough.scale)
    for mine, true in zip(with_gradients(rough, blockwise(rough)), with_gradients(exact, fused(exact)), strict=True):
        assert mine.dtype == torch.bfloat16
        assert (mine - true).norm() < 2 * 2**-8 * true.norm()  # bf16 has eight bits


def test_under_autocast_it_computes_in_the_type_that_autocast_names() -> None:
    made = case(1, 2, 1, 20, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = blockwise(made)
    assert out.dtype == torch.bfloat16
    assert [grad.dtype for grad in with_gradients(made, out)[1:]] == [torch.float32] * 3


def saved_bytes(length: int) -> int:
    """The memory that waits for the backward pass, each storage counted once."""
    held: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    made = case(1, 2, 2, length, 16)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        blockwise(made, torch.arange(length)[None])
    return sum(held.values())


def largest_allocation(length: int) -> int:
    made = case(1, 2, 2, length, 16)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        with_gradients(made, blockwise(made))
    return max(int(event.nbytes()) for event in memory_events(profile))


def memory_events(profile: Any) -> list[Any]:
    return [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]


def test_the_memory_kept_for_the_backward_pass_grows_with_the_length() -> None:
    short, long = saved_bytes(256), saved_bytes(2048)
    assert 3 * 2 * 2048 * 16 * 4 <= long <= 8 * short


def test_no_allocation_grows_with_the_square_of_the_length() -> None:
    assert largest_allocation(2048) <= 4 * largest_allocation(512)


def test_a_llama_gives_the_same_scores_with_either_attention() -> None:
    from pipelines.models.build import build

    ids = torch.randint(6, 262, (2, 150))
    for position_ids in (None, positions([[150], [20, 100, 30]], 150)):
        scores = []
        for attention in ("sdpa", "blockwise"):
            torch.manual_seed(0)
            model = build("tiny", 262, 256, attention=attention)  # type: ignore[arg-type]
            assert model.config._attn_implementation == attention
            scores.append(model(input_ids=ids, position_ids=position_ids, use_cache=False).logits)
        torch.testing.assert_close(scores[0], scores[1], atol=2e-5, rtol=1e-4)


def test_the_operators_keep_what_torch_asks_of_an_operator() -> None:
    from pipelines.models.blocks import causal_attention

    made = case(2, 4, 2, 9, 4)
    starts = document_starts(positions([[9], [4, 5]], 9))
    torch.library.opcheck(causal_attention, (*made.inputs, starts, 0.5))


@pytest.mark.parametrize("wrong", [{"attention_mask": torch.ones(1, 1, 4, 4)}, {"dropout": 0.1}])
def test_blockwise_attention_refuses_a_mask_and_dropout(wrong: dict[str, Any]) -> None:
    heads = torch.zeros(1, 1, 4, 8)
    with pytest.raises(ValueError, match="without mask or dropout"):
        blockwise_attention(torch.nn.Module(), heads, heads, heads, **{"attention_mask": None, "scaling": 1.0} | wrong)
