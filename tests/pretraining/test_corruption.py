"""What objectives leave out of windows: a pure function of seed and sample, in the shares that the papers give."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.models.build import build
from pipelines.pretraining.corruption import FIRST_TEXT_ID, MaskedTokens, uniform
from pipelines.pretraining.losses import IGNORED, PAD, masked_cross_entropy
from pipelines.pretraining.pretrain import PretrainConfig, pretrain

MASKED = MaskedTokens(seed=3, share=0.15, mask_id=500)


def windows(rows: int = 64, length: int = 128) -> torch.Tensor:
    return torch.randint(FIRST_TEXT_ID, 500, (rows, length), generator=torch.Generator().manual_seed(0))


def test_uniform_numbers_are_even_and_differ_by_seed_sample_and_stream() -> None:
    samples = np.arange(100)
    numbers = uniform(0, samples, 500, 0)
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = np.histogram(numbers, bins=20, range=(0, 1))[0]
    assert (abs(counts - 2_500) < 5 * 50).all()
    for other in (uniform(1, samples, 500, 0), uniform(0, samples + 100, 500, 0), uniform(0, samples, 500, 1)):
        assert abs(np.corrcoef(numbers.ravel(), other.ravel())[0, 1]) < 0.02


def test_a_window_hides_the_same_tokens_in_any_batch() -> None:
    ids = windows()
    whole = MASKED((ids, ids), 1_000)
    for rows in (1, 16, 32):
        parts = [MASKED((part, part), 1_000 + rows * at) for at, part in enumerate(ids.split(rows))]
        for place in (0, 1):
            assert torch.equal(whole[place], torch.cat([part[place] for part in parts]))
    assert not torch.equal(whole[0], MASKED((ids, ids), 2_000)[0]), "another epoch hides others"


def test_the_shares_are_those_of_bert_and_special_tokens_stay() -> None:
    ids = windows(400)
    ids[:, 0], ids[:, -1] = 0, PAD
    inputs, targets = MASKED((ids, ids), 0)
    chosen = targets != IGNORED
    assert not chosen[:, 0].any() and not chosen[:, -1].any()
    assert chosen[:, 1:-1].float().mean() == pytest.approx(0.15, abs=0.005)
    assert torch.equal(inputs[~chosen], ids[~chosen]) and torch.equal(targets[chosen], ids[chosen])
    shown, held = inputs[chosen], ids[chosen]
    assert (shown == 500).float().mean() == pytest.approx(0.8, abs=0.02)
    assert ((shown != 500) & (shown != held)).float().mean() == pytest.approx(0.1, abs=0.02)
    assert (shown >= FIRST_TEXT_ID).all()


@pytest.mark.parametrize(("architecture", "head"), [("bert", "cls.predictions.transform"), ("modernbert", "head")])
def test_the_loss_is_that_of_transformers_where_nothing_is_padded(architecture: str, head: str) -> None:
    torch.manual_seed(0)
    model = build("tiny", 501, 128, architecture=architecture)
    torch.nn.init.normal_(model.get_output_embeddings().bias)
    inputs, targets = MASKED((windows(4), windows(4)), 0)
    ours = masked_cross_entropy(model, inputs, targets, head)
    theirs = model(input_ids=inputs, labels=targets).loss * (targets != IGNORED).sum()
    torch.testing.assert_close(ours, theirs)
    padded = torch.cat([inputs, torch.full((4, 9), PAD)], 1)[:, :128]
    short = torch.where(padded == PAD, IGNORED, targets)
    assert torch.isfinite(masked_cross_entropy(model, padded, short, head))


def test_tokens_are_counted_as_read_and_the_mask_id_is_published(inputs: Any, tmp_path: Path) -> None:
    config = PretrainConfig(
        architecture="bert", size="tiny", sequence_length=32, global_batch=4, micro_batch=2, max_steps=3
    )
    metrics = pretrain(config, **inputs.named(), out=tmp_path)
    assert metrics["tokens"] == 3 * 4 * 32
    published = json.loads((tmp_path / "model" / "config.json").read_text())
    assert published["mask_token_id"] == 262 and published["vocab_size"] == 263
    assert not (tmp_path / "model" / "generation_config.json").exists()
