"""Spans that objectives leave out: functions of seed and sample alone, in the shares and layouts of the papers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.models.build import build
from pipelines.pretraining.losses import IGNORED, PAD, seq2seq_cross_entropy
from pipelines.pretraining.objectives import gaps, work_of
from pipelines.pretraining.optimizer import weight_groups
from pipelines.pretraining.pretrain import PretrainConfig, pretrain
from pipelines.pretraining.spans import END, LeftOutSpans, Sentinels, SpanNoise, composition, numbered

FIRST_ID = 500
NOISE = SpanNoise(seed=3, share=0.15, length=3.0)
T5 = LeftOutSpans(NOISE, Sentinels(FIRST_ID))


def windows(rows: int = 64, length: int = 128) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(6, FIRST_ID, (rows, length), generator=torch.Generator().manual_seed(0))
    return ids, ids


def test_a_window_lacks_the_same_spans_in_any_batch() -> None:
    ids, _ = windows()
    whole = T5((ids, ids), 1_000)
    for rows in (1, 16, 32):
        parts = [T5((part, part), 1_000 + rows * at) for at, part in enumerate(ids.split(rows))]
        for place in (0, 1):
            assert torch.equal(whole[place], torch.cat([part[place] for part in parts]))
    assert not torch.equal(whole[0], T5((ids, ids), 2_000)[0]), "another epoch lacks others"


@pytest.mark.parametrize(("length", "share", "mean"), [(128, 0.15, 3.0), (512, 0.5, 8.0), (9, 0.9, 1.0), (8, 0.01, 50)])
def test_the_numbers_of_tokens_and_spans_are_those_of_the_paper(length: int, share: float, mean: float) -> None:
    ids = windows(200, length)[0].numpy()
    hidden = SpanNoise(0, share, mean)(ids, 0)
    tokens, spans = gaps(length, share, mean)
    assert (hidden.sum(1) == tokens).all() and (numbered(hidden)[0].sum(1) == spans).all()


def test_a_window_of_512_lacks_77_tokens_in_26_spans() -> None:
    assert gaps(512, 0.15, 3.0) == (77, 26)


def test_every_place_is_left_out_alike_but_at_the_ends() -> None:
    often = NOISE(np.full((4_000, 64), 9), 0).mean(0)
    assert often[4:-4] == pytest.approx(gaps(64, 0.15, 3.0)[0] / 64, abs=0.03)
    assert often[0] > 0.02 and often[-1] > 0.02, "a window may begin and end with a span"


def test_all_ways_to_cut_items_are_alike_likely() -> None:
    chances = np.random.default_rng(0).random((6_000, 5))
    found = composition(chances, np.full(6_000, 5), np.full(6_000, 2), 2)
    assert (found.sum(1) == 5).all() and (found >= 1).all()
    assert np.bincount(found[:, 0], minlength=5)[1:] == pytest.approx([1_500] * 4, rel=0.1)


def test_sentinels_stand_for_spans_and_ask_for_them() -> None:
    ids = np.array([[10, 11, 12, 13, 14, 15, 16], [20, 21, 22, PAD, PAD, PAD, PAD], [30, PAD, PAD, PAD, PAD, PAD, PAD]])
    hidden = np.zeros_like(ids, np.bool_)
    hidden[0, [1, 2, 6]] = hidden[1, 0] = True
    inputs, targets = Sentinels(FIRST_ID)(ids, hidden)
    assert inputs.tolist() == [[10, 500, 13, 14, 15, 501], [500, 21, 22, PAD, PAD, PAD], [30, *[PAD] * 5]]
    assert targets.tolist() == [[500, 11, 12, 501, 16, END], [500, 20, END, *[IGNORED] * 3], [IGNORED] * 6]
    assert Sentinels(FIRST_ID).tokens((inputs, targets)) == 11


def test_padding_and_a_token_alone_are_never_left_out() -> None:
    ids = windows(3)[0].numpy()
    ids[1, 40:], ids[2, 1:] = PAD, PAD
    hidden = NOISE(ids, 0)
    assert not hidden[ids == PAD].any() and hidden[1].sum() == gaps(40, 0.15, 3.0)[0] and not hidden[2].any()


def test_a_span_loss_is_that_of_transformers_and_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    model = build("tiny", FIRST_ID + 100, 128, architecture="t5")
    inputs, targets = T5(windows(4), 0)
    ours = seq2seq_cross_entropy(model, inputs, targets)
    theirs = model(input_ids=inputs, labels=targets).loss * (targets != IGNORED).sum()
    torch.testing.assert_close(ours, theirs)
    padded = torch.nn.functional.pad(inputs, (0, 9), value=PAD), torch.nn.functional.pad(targets, (0, 5), value=IGNORED)
    torch.testing.assert_close(seq2seq_cross_entropy(model, *padded), ours)


def test_the_numbers_of_distances_are_no_matrices_of_a_block() -> None:
    model = build("tiny", 362, 32, architecture="t5")
    groups = weight_groups(model)
    distances = [
        stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight for stack in (model.encoder, model.decoder)
    ]
    assert all(any(weight is own for weight in groups["vectors"]) for own in distances)
    assert len(groups["embedding"]) == 1 and not groups["unembedding"]


def test_the_work_of_a_token_is_that_of_the_batches() -> None:
    inputs, targets = T5(windows(), 0)
    work = work_of("span_corruption", 128, 0.15, 3.0)
    assert (work.computed * 128, work.predicted * 128) == (inputs.shape[1], targets.shape[1])


def test_an_encoder_decoder_is_published_with_what_it_learnt_by(inputs: Any, tmp_path: Path) -> None:
    config = PretrainConfig(
        architecture="t5", size="tiny", sequence_length=32, global_batch=4, micro_batch=2, max_steps=3
    )
    metrics = pretrain(config, **inputs.named(), out=tmp_path)
    assert metrics["tokens"] == 3 * 4 * 32
    published = json.loads((tmp_path / "model" / "config.json").read_text())
    assert published["vocab_size"] == 362
    assert published["pretraining_objective"] == {
        "name": "span_corruption", "first_id": 262, "mask_share": 0.15, "span_length": 3.0,
    }  # fmt: skip
    generation = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert (generation["decoder_start_token_id"], generation["eos_token_id"]) == (PAD, END)
