"""The prefix objective: what attention sees, what counts, and documents that do not see each other."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.models.build import build
from pipelines.pretraining.losses import IGNORED, PAD, causal_cross_entropy
from pipelines.pretraining.prefix import Prefixes, prefix_cross_entropy, prefix_mask
from pipelines.pretraining.pretrain import PretrainConfig, pretrain
from pipelines.tokens.positions import document_positions

CAUSAL = ["llama", "qwen3", "gpt2", "mixtral", "qwen3_moe"]


def windows(rows: int = 64, length: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(6, 262, (rows, length + 1), generator=torch.Generator().manual_seed(0))
    return ids[:, :-1].clone(), ids[:, 1:].clone()


def test_a_prefix_is_that_of_its_sample_in_any_batch_and_of_any_length() -> None:
    inputs, targets = windows(480)
    inputs[0, 5:], targets[0, 5:] = PAD, IGNORED
    shown, asked = Prefixes(3)((inputs, targets), 100)
    parts = [
        Prefixes(3)(pair, 100 + 16 * at)
        for at, pair in enumerate(zip(*(part.split(16) for part in (inputs, targets)), strict=True))
    ]
    assert torch.equal(asked, torch.cat([part for _, part in parts])) and torch.equal(shown, inputs)
    counts = (asked != IGNORED).sum(1)
    assert 1 <= counts[0] <= 5 and set(counts[1:].tolist()) == set(range(1, 25))
    assert torch.equal(asked[asked != IGNORED], targets[asked != IGNORED])


def test_a_prefix_is_seen_whole_and_documents_apart() -> None:
    config = build("tiny", 262, 32).config
    places = torch.arange(6)
    mask = prefix_mask(config, torch.tensor([3, 1]), 6)
    assert torch.equal(mask[0, 0], (places <= places[:, None]) | (places < 3) & (places[:, None] < 3))
    assert torch.equal(mask[1, 0], places <= places[:, None]), "a prefix of one is none"
    apart = prefix_mask(config, torch.tensor([5]), 6, torch.tensor([[0, 1, 0, 1, 2, 3]]))[0, 0]
    assert apart[:2, :2].all() and not apart[:2, 2:].any() and not apart[2:, :2].any()
    assert apart[2:5, 2:5].all() and not apart[2:5, 5].any() and apart[5, 2:].all()


@pytest.mark.parametrize("architecture", CAUSAL)
def test_what_follows_reaches_no_prefix_and_a_prefix_reaches_back(architecture: str) -> None:
    torch.manual_seed(0)
    model = build("tiny", 262, 32, architecture=architecture).eval()
    inputs, targets = windows(1, 12)

    def states(changed: int) -> torch.Tensor:
        ids = inputs.clone()
        ids[0, changed] += 1
        mask = prefix_mask(model.config, torch.tensor([8]), 12)
        hidden: torch.Tensor = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        return hidden[0]

    whole, late, early = states(11), states(9), states(7)
    torch.testing.assert_close(whole[:9], late[:9])
    assert (late[0] - early[0]).abs().max() > 1e-4
    prefix = prefix_cross_entropy(model, inputs, targets, document_mask=False)
    torch.testing.assert_close(prefix, causal_cross_entropy(model, inputs, targets))  # a prefix of one is none


def test_packed_documents_cost_what_they_cost_alone() -> None:
    torch.manual_seed(0)
    model = build("tiny", 262, 32).eval()
    inputs, targets = windows(1, 14)
    inputs[0, 0] = inputs[0, 6] = 0  # two documents; the prefix ends in the second
    asked = targets.masked_fill(torch.arange(14) < 9, IGNORED)
    packed = prefix_cross_entropy(model, inputs, asked, document_mask=True)
    alone = prefix_cross_entropy(model, inputs[:, 6:], asked[:, 6:], document_mask=False)
    torch.testing.assert_close(packed, alone)
    assert document_positions(inputs)[0, 6] == 0


def test_a_mixture_balances_all_that_was_read(inputs: Any, tmp_path: Path) -> None:
    config = PretrainConfig(
        architecture="mixtral", objective="prefix_lm", size="tiny", sequence_length=32, global_batch=4, micro_batch=2,
        max_steps=2, document_mask=True, log_interval=1,
    )  # fmt: skip
    metrics = pretrain(config, **inputs.named(), out=tmp_path)
    assert metrics["tokens"] == 2 * 4 * 32 and metrics["heldout_loss"] > 0
    assert '"expert_entropy"' in (tmp_path / "log" / "metrics.jsonl").read_text()
