"""Blank infilling: the layout and both positions of the paper's figure 2, and what each part sees."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.models.build import build
from pipelines.pretraining.infilling import BlankedSpans, Blanks, infilled, infilling_cross_entropy
from pipelines.pretraining.losses import IGNORED, PAD
from pipelines.pretraining.objectives import INNER_PLACES, gaps, work_of
from pipelines.pretraining.pretrain import PretrainConfig, pretrain
from pipelines.pretraining.spans import END, SpanNoise

MASK, START, INNER = 500, 501, 502
VOCABULARY = 500 + 2 + INNER_PLACES
GLM = BlankedSpans(SpanNoise(seed=3, share=0.15, length=3.0), Blanks(500))


def windows(rows: int = 64, length: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(6, 500, (rows, length), generator=torch.Generator().manual_seed(0))
    return ids, ids


def test_the_layout_is_that_of_the_figure() -> None:
    ids = np.array([[11, 12, 13, 14, 15, 16], [21, 22, 23, PAD, PAD, PAD], [31, *[PAD] * 5]])
    hidden = np.zeros_like(ids, np.bool_)
    hidden[0, [2, 4, 5]] = hidden[1, 0] = True
    order = np.array([[0.9, 0.1, *[0.5] * 4]] * 3)  # the second span is written first
    inputs, targets = Blanks(500)(ids, hidden, order)
    assert inputs[0].tolist() == [
        [11, 12, MASK, 14, MASK, START, 15, 16, START, 13],
        [0, 1, 2, 3, 4, 4, 4, 4, 2, 2],
        [INNER + place for place in (0, 0, 0, 0, 0, 1, 2, 3, 1, 2)],
    ]
    assert targets[0].tolist() == [*[IGNORED] * 5, 15, 16, END, 13, END]
    assert inputs[1, 0].tolist() == [MASK, 22, 23, START, 21, *[PAD] * 5]
    assert targets[1].tolist() == [*[IGNORED] * 3, 21, END, *[IGNORED] * 5]
    assert inputs[2, 0].tolist() == [31, *[PAD] * 9] and (targets[2] == IGNORED).all()
    assert Blanks(500).tokens((inputs, targets)) == 10
    plain, _ = Blanks(500)(ids, hidden)
    assert plain[0, 0].tolist() == [11, 12, MASK, 14, MASK, START, 13, START, 15, 16]


def test_a_window_lacks_the_same_spans_in_the_same_order_in_any_batch() -> None:
    ids, _ = windows()
    whole = GLM((ids, ids), 1_000)
    parts = [GLM((part, part), 1_000 + 16 * at) for at, part in enumerate(ids.split(16))]
    for place in (0, 1):
        assert torch.equal(whole[place], torch.cat([part[place] for part in parts]))
    firsts = whole[0][:, 1].gather(1, (whole[1] != IGNORED).int().argmax(1, keepdim=True)).flatten()
    masks = [(row == MASK).nonzero().flatten().tolist() for row in whole[0][:, 0]]
    assert {own.index(int(first)) for own, first in zip(masks, firsts, strict=True)} == {0, 1, 2}, "orders differ"
    work = work_of("blank_infilling", 64, 0.15, 3.0)
    assert work.computed * 64 == whole[1].shape[1] and work.predicted * 64 * 64 == (whole[1] != IGNORED).sum()
    assert GLM.tokens(whole) == 64 * 64 and gaps(64, 0.15, 3.0) == (10, 3)


def test_a_token_of_a_long_span_has_the_last_place() -> None:
    ids = np.full((1, 100), 9)
    inputs, _ = Blanks(500)(ids, np.ones_like(ids, np.bool_))
    assert inputs[0, 2].max() == VOCABULARY - 1


def test_what_is_left_sees_itself_and_what_is_written_all_before_it() -> None:
    torch.manual_seed(0)
    model = build("tiny", VOCABULARY, 64, architecture="glm").eval()
    inputs, targets = GLM(windows(1), 0)
    left = int((targets[0] != IGNORED).int().argmax())

    def states(place: int) -> torch.Tensor:
        changed = inputs.clone()
        changed[0, 0, place] = 7
        return infilled(model, changed, targets)[0]

    plain = infilled(model, inputs, targets)[0]
    assert not torch.equal(states(left - 1)[0], plain[0]), "what is left sees both sides"
    late = states(left + 3)
    assert torch.equal(late[: left + 3], plain[: left + 3]) and not torch.equal(late[left + 3 :], plain[left + 3 :])


def test_spans_may_be_written_in_any_order_and_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    model = build("tiny", VOCABULARY, 64, architecture="glm").eval()
    inputs, targets = GLM(windows(4), 0)
    loss = infilling_cross_entropy(model, inputs, targets)
    padded = torch.nn.functional.pad(inputs, (0, 7)), torch.nn.functional.pad(targets, (0, 7), value=IGNORED)
    torch.testing.assert_close(infilling_cross_entropy(model, *padded), loss)
    left = int((targets[0] != IGNORED).int().argmax())
    span = int((targets[0] == END).nonzero()[0]) + 1 - left
    first = inputs[:1, :, : left + span], targets[:1, : left + span]
    alone = infilled(model, *first)[0, left:]
    torch.testing.assert_close(infilled(model, inputs, targets)[0, left : left + span], alone)


def test_a_blank_filling_model_is_published_with_what_it_learnt_by(inputs: Any, tmp_path: Path) -> None:
    config = PretrainConfig(
        architecture="glm", size="tiny", sequence_length=32, global_batch=4, micro_batch=2, max_steps=2, span_length=2.0
    )
    metrics = pretrain(config, **inputs.named(), out=tmp_path)
    assert metrics["tokens"] == 2 * 4 * 32 and metrics["heldout_loss"] == pytest.approx(5.5, abs=0.5)
    published = json.loads((tmp_path / "model" / "config.json").read_text())
    assert published["vocab_size"] == 262 + 2 + INNER_PLACES
    assert published["pretraining_objective"]["name"] == "blank_infilling"
    assert published["pretraining_objective"]["span_length"] == 2.0
