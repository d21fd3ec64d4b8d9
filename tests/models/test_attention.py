import pytest
import torch
from torch.nn import functional as F

from pipelines.models.attention import blockwise_attention


@pytest.mark.parametrize("length", [1, 7, 128, 129, 300])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_blockwise_attention_equals_the_fused_kernel_in_output_and_gradients(length: int, kv_heads: int) -> None:
    torch.manual_seed(length)
    query = torch.randn(2, 4, length, 16, requires_grad=True)
    key, value = (torch.randn(2, kv_heads, length, 16, requires_grad=True) for _ in range(2))
    weights = torch.randn(2, length, 4, 16)

    ours, _ = blockwise_attention(torch.nn.Module(), query, key, value, None, scaling=0.25)
    ours_gradients = torch.autograd.grad((ours * weights).sum(), (query, key, value))
    fused = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.25, enable_gqa=True)
    fused = fused.transpose(1, 2)
    fused_gradients = torch.autograd.grad((fused * weights).sum(), (query, key, value))

    torch.testing.assert_close(ours, fused, atol=2e-6, rtol=1e-5)
    for mine, theirs in zip(ours_gradients, fused_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_a_llama_gives_the_same_scores_with_either_attention() -> None:
    from pipelines.models.build import build

    ids = torch.randint(6, 262, (2, 150))
    scores = []
    for attention in ("sdpa", "blockwise"):
        torch.manual_seed(0)
        model = build("tiny", 262, 256, attention=attention)  # type: ignore[arg-type]
        assert model.config._attn_implementation == attention
        scores.append(model(input_ids=ids, use_cache=False).logits)
    torch.testing.assert_close(scores[0], scores[1], atol=2e-5, rtol=1e-4)


def test_blockwise_attention_refuses_a_mask() -> None:
    heads = torch.zeros(1, 1, 4, 8)
    with pytest.raises(ValueError, match="without a mask"):
        blockwise_attention(torch.nn.Module(), heads, heads, heads, torch.ones(1, 1, 4, 4), scaling=1.0)
