"""Scores and texts of a prefix language model: what is shown to it sees itself on both sides."""

from pathlib import Path

import pytest
import torch

from pipelines.evaluation.completions import complete
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.loading import load_lm
from pipelines.evaluation.prefix_lm import PrefixLM
from pipelines.evaluation.scores import read_scores
from pipelines.pretraining.prefix import prefix_mask
from tests.evaluation.test_gap_lm import CONFIG, published
from tests.evaluation.workbench import Workbench


@pytest.fixture(scope="module")
def prefix(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published("llama", workbench, tmp_path_factory.mktemp("prefix"), objective="prefix_lm")


def scores_of(lm: PrefixLM, ids: list[int], prefix: int) -> torch.Tensor:
    mask = prefix_mask(lm.masking, torch.tensor([prefix]), len(ids))
    with torch.no_grad():
        logits: torch.Tensor = lm.model(input_ids=torch.tensor([ids]), attention_mask=mask, use_cache=False).logits
    return logits[0].log_softmax(-1)


def test_an_answer_is_scored_behind_a_context_that_sees_itself(prefix: Path) -> None:
    lm = load_lm(prefix, device="cpu", dtype="float32", batch_size=2)
    assert isinstance(lm, PrefixLM)
    requests = [(None, [0, 20, 21, 30], [22, 23]), (None, [0], [40, 41, 42]), (None, [0, 9], [33])]
    found = lm._loglikelihood_tokens(requests)
    for (_, context, rest), (likelihood, likeliest) in zip(requests, found, strict=True):
        scores = scores_of(lm, [*context, *rest], len(context))[len(context) - 1 : -1]
        expected = sum(float(scores[place, token]) for place, token in enumerate(rest))
        assert likelihood == pytest.approx(expected, rel=1e-5)
        assert likeliest == (scores.argmax(-1).tolist() == rest)


def test_a_text_is_continued_from_a_prefix_that_sees_itself(prefix: Path) -> None:
    lm = load_lm(prefix, device="cpu", dtype="float32", batch_size=2)
    assert isinstance(lm, PrefixLM)
    prompt = "the model reads a café"
    ids = lm.tok_encode(prompt)
    expected = list(ids)
    for _ in range(4):
        expected.append(int(scores_of(lm, expected, len(ids))[-1].argmax()))
    assert complete(lm, prompt, None, 4) == lm.tokenizer.decode(expected[len(ids) :], skip_special_tokens=True)


def test_a_prefix_model_is_evaluated_as_one_that_writes(prefix: Path, workbench: Workbench, tmp_path: Path) -> None:
    inputs = {"heldout": workbench.heldout, "train": workbench.train, "questions": workbench.questions}
    evaluate(CONFIG, model=prefix, **inputs, out=tmp_path)
    scores = {score.name: score for score in read_scores(tmp_path / "scores" / "scores.json")}
    assert scores["docs_heldout.perplexity"].value > 1 and "toxicity.mean_probability" in scores
    assert (tmp_path / "samples" / "samples.jsonl").read_text()
