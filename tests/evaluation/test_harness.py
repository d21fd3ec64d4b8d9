"""The bridge to lm-eval, against the model asked directly and against lm-eval's own class."""

from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.evaluation.harness import LocalLM, load_tokenizer, run_tasks
from pipelines.evaluation.loading import load_lm
from pipelines.evaluation.perplexity import heldout_task
from pipelines.evaluation.surroundings import quiet
from tests.evaluation.workbench import Workbench


@pytest.fixture(scope="module")
def lm(workbench: Workbench) -> LocalLM:
    with quiet():
        return load_lm(workbench.model, device="cpu", dtype="float32", batch_size=4)


def requests(*arguments: Any) -> list[Instance]:
    return [Instance("loglikelihood", {}, argument, place) for place, argument in enumerate(arguments)]


def direct(lm: LocalLM, context: list[int], continuation: list[int]) -> float:
    """The log-likelihood of `continuation` ids after `context` ids, one forward pass."""
    ids = torch.tensor([context + continuation])
    with torch.no_grad():
        scores = torch.log_softmax(lm.model(ids).logits[0, len(context) - 1 : -1], -1)
    return scores[torch.arange(len(continuation)), torch.tensor(continuation)].sum().item()


def test_a_continuation_is_scored_after_bos_and_its_context(lm: LocalLM) -> None:
    context, continuation = "the model reads", " a café and writes"
    whole = lm.tok_encode(context + continuation)
    start = len(lm.tok_encode(context))
    assert whole[0] == 0
    with quiet():
        ((likelihood, _),) = lm.loglikelihood(requests((context, continuation)))
        ((alone, _),) = lm.loglikelihood(requests(("", continuation)))
    assert likelihood == pytest.approx(direct(lm, whole[:start], whole[start:]), abs=1e-3)
    bare = lm.tok_encode(continuation, add_special_tokens=False)
    assert alone == pytest.approx(direct(lm, [0], bare), abs=1e-3)


def test_a_control_token_that_a_text_spells_is_read_as_its_letters(lm: LocalLM) -> None:
    assert 5 not in lm.tok_encode("say <|end|> aloud")


def test_long_texts_cost_what_lm_evals_own_class_finds(lm: LocalLM, workbench: Workbench) -> None:
    # its tokenizer call reads a spelled control token as the token, ours never does
    texts = [text.replace("<|end|>", "end") for text in workbench.heldout_texts[:6]]
    texts.append(" ".join(texts * 3))
    assert len(lm.tok_encode(texts[-1])) > 2 * lm.max_length
    asked = [Instance("loglikelihood_rolling", {}, (text,), place) for place, text in enumerate(texts)]
    with quiet():
        plain = HFLM(pretrained=lm.model, tokenizer=load_tokenizer(workbench.model), batch_size=2)
        theirs = plain.loglikelihood_rolling(asked, disable_tqdm=True)
        assert lm.loglikelihood_rolling(asked) == pytest.approx(theirs, rel=1e-5)


def test_the_number_of_sequences_in_a_batch_changes_no_score(workbench: Workbench) -> None:
    found = []
    for batch_size in (1, 7):
        with quiet():
            lm = load_lm(workbench.model, device="cpu", dtype="float32", batch_size=batch_size)
            asked = requests(*[(text[:20] or "a", text[20:60] or "b") for text in workbench.heldout_texts])
            found.append([likelihood for likelihood, _ in lm.loglikelihood(asked)])
    assert np.allclose(*found, rtol=1e-5)


def test_a_task_that_fails_is_named(lm: LocalLM) -> None:
    with quiet():
        loaded = TaskManager(include_defaults=False).load([heldout_task(["text"], [1])])
        loaded["tasks"]["docs_heldout"].process_results = lambda doc, results: 1 / 0
        with pytest.raises(StageFailed, match=r"task docs_heldout failed \(ZeroDivisionError"):
            run_tasks(lm, "docs_heldout", loaded, limit=None, few_shot=None, seed=1)


def test_an_answer_longer_than_the_model_reads_is_an_error_and_not_a_wrong_score(lm: LocalLM) -> None:
    with quiet(), pytest.raises(ValueError, match="longer than the 256 that the model reads"):
        lm.loglikelihood(requests(("question", " word" * 400)))


def test_a_device_that_is_not_there_is_refused(workbench: Workbench) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is an accelerator")
    with pytest.raises(UserError, match="device: 'cuda' is not there"):
        load_lm(workbench.model, device="cuda", dtype="float32", batch_size=1)
