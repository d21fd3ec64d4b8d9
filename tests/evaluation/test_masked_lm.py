"""Scores of masked models: each token hidden in its turn."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.evaluation.evaluate import EvaluateConfig, evaluate
from pipelines.evaluation.loading import load_lm
from pipelines.evaluation.masked_lm import MaskedLM
from pipelines.evaluation.scores import read_scores
from pipelines.pretraining.pretrain import PretrainConfig, pretrain
from tests.evaluation.workbench import Workbench

CONFIG = EvaluateConfig(heldout_tokens=120, questions=2, few_shot=0, bias_templates=2, toxicity_prompts=4, samples=2)


@pytest.fixture(scope="module", params=["bert", "modernbert"])
def masked(request: Any, workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp(request.param)
    settings = {"sequence_length": 64, "global_batch": 4, "micro_batch": 4, "max_steps": 4, "trackers": ()}
    config = PretrainConfig(architecture=request.param, size="tiny", **settings)  # type: ignore[arg-type]
    pretrain(config, train=workbench.train, heldout=workbench.heldout, tokenizer=workbench.model, out=out)
    return out / "model"


def test_a_text_is_scored_by_hiding_each_of_its_tokens(masked: Path) -> None:
    lm = load_lm(masked, device="cpu", dtype="float32", batch_size=4)
    assert isinstance(lm, MaskedLM)
    context, rest = [0, 20, 21], [22, 23]
    expected = 0.0
    for place in (3, 4):
        ids = torch.tensor([context + rest])
        held = int(ids[0, place])
        ids[0, place] = lm.model.config.mask_token_id
        with torch.no_grad():
            expected += float(lm.model(input_ids=ids).logits[0, place].log_softmax(-1)[held])
    ((found, first),) = lm._loglikelihood_tokens([(None, context, rest)])
    assert found == pytest.approx(expected, rel=1e-5) and isinstance(first, bool)


def test_a_masked_model_is_evaluated_by_pseudo_perplexity(masked: Path, workbench: Workbench, tmp_path: Path) -> None:
    inputs = {"heldout": workbench.heldout, "train": workbench.train, "questions": workbench.questions}
    metrics = evaluate(CONFIG, model=masked, **inputs, out=tmp_path)
    scores = {score.name: score for score in read_scores(tmp_path / "scores" / "scores.json")}
    assert scores["docs_heldout.pseudo_perplexity"].value > 1
    assert scores["docs_heldout.pseudo_bits_per_byte"].low <= metrics["docs_heldout.pseudo_bits_per_byte"]
    assert 0 <= metrics["docs_questions.acc"] <= 1
    assert not {"docs_heldout.perplexity", "toxicity.mean_probability"} & set(scores), "it writes no text"
    assert (tmp_path / "samples" / "samples.jsonl").read_text() == ""
