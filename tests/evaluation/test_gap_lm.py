"""Scores of models that fill gaps: each token left out once, in a span."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipelines.artifacts.errors import UserError
from pipelines.evaluation.evaluate import EvaluateConfig, evaluate
from pipelines.evaluation.gap_lm import GapLM
from pipelines.evaluation.loading import load_lm
from pipelines.evaluation.scores import read_scores
from pipelines.pretraining.pretrain import PretrainConfig, pretrain
from tests.evaluation.workbench import Workbench

CONFIG = EvaluateConfig(heldout_tokens=120, questions=2, few_shot=0, bias_templates=2, toxicity_prompts=4, samples=2)
SETTINGS = {"size": "tiny", "sequence_length": 64, "global_batch": 4, "micro_batch": 4, "max_steps": 4, "trackers": ()}


def published(architecture: str, workbench: Workbench, out: Path, **changes: str) -> Path:
    config = PretrainConfig(architecture=architecture, **SETTINGS, **changes)  # type: ignore[arg-type]
    pretrain(config, train=workbench.train, heldout=workbench.heldout, tokenizer=workbench.model, out=out)
    return out / "model"


@pytest.fixture(scope="module")
def glm(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published("glm", workbench, tmp_path_factory.mktemp("glm"))


@pytest.fixture(scope="module")
def t5(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published("t5", workbench, tmp_path_factory.mktemp("t5"))


def test_what_a_span_corrupted_text_lacks_is_scored_by_the_decoder(t5: Path) -> None:
    lm = load_lm(t5, device="cpu", dtype="float32", batch_size=4)
    assert isinstance(lm, GapLM)
    context, rest = [0, 20, 21], [22, 23]
    first = lm.first_id
    with torch.no_grad():
        logits = lm.model(
            input_ids=torch.tensor([[*context, first]]), decoder_input_ids=torch.tensor([[1, first, *rest]])
        ).logits.log_softmax(-1)
    expected = float(logits[0, 1, 22] + logits[0, 2, 23])
    ((found, likeliest),) = lm._loglikelihood_tokens([(None, context, rest)])
    assert found == pytest.approx(expected, rel=1e-5) and isinstance(likeliest, bool)


def test_a_model_that_does_not_say_what_it_learnt_by_is_refused(t5: Path, tmp_path: Path) -> None:
    config = json.loads((t5 / "config.json").read_text())
    del config["pretraining_objective"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"names no objective that we know; evaluate a model of `pretrain`"):
        load_lm(tmp_path, device="cpu", dtype="float32", batch_size=4)


def test_each_token_of_a_text_is_left_out_once(t5: Path) -> None:
    lm = load_lm(t5, device="cpu", dtype="float32", batch_size=4)
    assert isinstance(lm, GapLM)
    text = "the model reads and writes while every old clock turns slowly. " * 4
    rows = lm.gaps(text)
    lacking = [[token for token, gap in zip(*row, strict=True) if gap] for row in rows]
    assert sorted(token for row in lacking for token in row) == sorted(lm.tok_encode(text, add_special_tokens=False))
    assert max(map(len, lacking)) <= 0.2 * lm.max_length, "no more is left out at once than in training"
    whole, *parts = (lm.loglikelihood_rolling([SimpleNamespace(args=(part,))])[0] for part in (text, "the", "mill"))
    assert whole < sum(parts) < 0
    both = lm.loglikelihood_rolling([SimpleNamespace(args=(part,)) for part in ("the", "mill")])
    assert both == pytest.approx(parts, rel=1e-5)


def test_an_encoder_decoder_is_evaluated_by_span_perplexity(t5: Path, workbench: Workbench, tmp_path: Path) -> None:
    inputs = {"heldout": workbench.heldout, "train": workbench.train, "questions": workbench.questions}
    metrics = evaluate(CONFIG, model=t5, **inputs, out=tmp_path)
    scores = {score.name: score for score in read_scores(tmp_path / "scores" / "scores.json")}
    assert scores["docs_heldout.span_perplexity"].value > 1
    assert scores["docs_heldout.span_bits_per_byte"].low <= metrics["docs_heldout.span_bits_per_byte"]
    assert 0 <= metrics["docs_questions.acc"] <= 1
    assert not {"docs_heldout.perplexity", "toxicity.mean_probability"} & set(scores), "it continues no text"


def test_a_blank_filling_model_is_scored_by_what_it_writes_behind_the_text(
    glm: Path, workbench: Workbench, tmp_path: Path
) -> None:
    lm = load_lm(glm, device="cpu", dtype="float32", batch_size=4)
    assert isinstance(lm, GapLM)
    mask, start, inner = lm.first_id, lm.first_id + 1, lm.first_id + 2
    ids = torch.tensor([[0, 20, 21, mask, start, 22]])
    seen = torch.ones(6, 6, dtype=torch.bool).tril()
    seen[:4, :4] = True
    with torch.no_grad():
        logits = lm.model(
            input_ids=ids,
            position_ids=torch.tensor([[0, 1, 2, 3, 3, 3]]),
            token_type_ids=torch.tensor([[0, 0, 0, 0, 1, 2]]) + inner,
            attention_mask=seen[None, None],
        ).logits.log_softmax(-1)
    ((found, _),) = lm._loglikelihood_tokens([(None, [0, 20, 21], [22, 23])])
    assert found == pytest.approx(float(logits[0, 4, 22] + logits[0, 5, 23]), rel=1e-5)
    evaluate(CONFIG, model=glm, heldout=workbench.heldout, out=tmp_path)
    names = {score.name for score in read_scores(tmp_path / "scores" / "scores.json")}
    assert "docs_heldout.span_perplexity" in names and "docs_heldout.perplexity" not in names
