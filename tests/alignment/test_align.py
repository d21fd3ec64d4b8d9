"""Alignment raises what is preferred, measured on pairs and prompts it never saw."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from pipelines.alignment.align import AlignConfig, GRPOConfig, align
from pipelines.alignment.pairs import log_likelihoods
from pipelines.alignment.reward import RewardConfig, reward
from pipelines.artifacts.errors import UserError
from pipelines.evaluation.scores import read_scores
from pipelines.finetuning.chat import default_template
from pipelines.finetuning.contract import check, stamp
from tests.finetuning.tiny import build_model, digests, run_and_kill, write_preferences
from tests.scores import find_score

SHORT: dict[str, Any] = {
    "max_steps": 6,
    "global_batch": 8,
    "micro_batch": 4,
    "checkpoint_every": 2,
    "warmup_steps": 2,
    "lr": 1e-3,
}
GRPO = {**SHORT, "method": "grpo", "heldout": 4, "grpo": {"group": 4, "max_new_tokens": 6}}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("align")
    return {
        "model": build_model(folder / "model", template=default_template()),
        "preferences": write_preferences(folder / "preferences"),
    }


@pytest.fixture(scope="module")
def judge(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("judge")
    reward(RewardConfig(max_steps=10, global_batch=8, lr=3e-3), **inputs, out=out)
    return out / "model"


def test_dpo_raises_the_margin_of_the_chosen_answers_above_chance(inputs: dict[str, Path], tmp_path: Path) -> None:
    config = AlignConfig(max_steps=25, global_batch=16, lr=3e-3, warmup_steps=2)
    metrics = align(config, **inputs, out=tmp_path)
    scores = read_scores(tmp_path / "scores" / "scores.json")
    assert find_score(scores, "dpo", "accuracy").low > 0.5
    assert find_score(scores, "dpo", "margin").low > 0
    assert find_score(scores, "dpo", "margin.cut").n == 10
    assert metrics["dpo.margin"] == find_score(scores, "dpo", "margin").value
    assert check(tmp_path / "model").digest == check(inputs["model"]).digest
    curve = [json.loads(line) for line in (tmp_path / "curve" / "curve.jsonl").read_text().splitlines()]
    assert curve[-1]["margin"] > curve[0]["margin"] == 0


def test_the_likelihood_of_an_answer_is_the_sum_over_its_tokens(inputs: dict[str, Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(str(inputs["model"])).eval()
    prompts, answers = [[0, 3, 9, 10], [0, 3, 11]], [[20, 5], [30, 31, 32, 5]]
    for prompt, answer, found in zip(prompts, answers, log_likelihoods(model, prompts, answers, 1), strict=True):
        with torch.inference_mode():
            logs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        expected = sum(float(logs[len(prompt) + place - 1, token]) for place, token in enumerate(answer))
        assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_a_dpo_run_that_was_killed_ends_in_the_same_bytes(inputs: dict[str, Path], tmp_path: Path) -> None:
    whole, killed, kills = run_and_kill("pipelines.alignment.align", SHORT, inputs, tmp_path)
    assert kills >= 2
    assert digests(killed) == digests(whole)


def test_grpo_reports_the_reward_before_and_after(inputs: dict[str, Path], judge: Path, tmp_path: Path) -> None:
    metrics = align(AlignConfig(**GRPO), **inputs, reward=judge, out=tmp_path)
    scores = read_scores(tmp_path / "scores" / "scores.json")
    before, after, gain = (find_score(scores, "grpo", f"reward_{when}").value for when in ("before", "after", "gain"))
    assert gain == pytest.approx(after - before, abs=1e-6)
    assert metrics["grpo.reward_gain"] == gain
    assert check(tmp_path / "model").digest == check(inputs["model"]).digest
    curve = [json.loads(line) for line in (tmp_path / "curve" / "curve.jsonl").read_text().splitlines()]
    assert {"reward", "kl", "answer_tokens", "loss", "tokens"} <= set(curve[-1])


@pytest.mark.slow
def test_a_grpo_run_that_was_killed_ends_in_the_same_bytes(
    inputs: dict[str, Path], judge: Path, tmp_path: Path
) -> None:
    given = {**inputs, "reward": judge}
    whole, killed, kills = run_and_kill("pipelines.alignment.align", GRPO, given, tmp_path)
    assert kills >= 2
    assert digests(killed) == digests(whole)


def test_grpo_wants_a_reward_model_of_the_same_contract(inputs: dict[str, Path], judge: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'grpo' needs a reward model"):
        align(AlignConfig(**GRPO), **inputs, out=tmp_path)
    other = shutil.copytree(judge, tmp_path / "judge")
    (other / "chat_template.jinja").write_text(default_template() + " ")
    stamp(other)
    with pytest.raises(UserError, match="contract is not the model's"):
        align(AlignConfig(**GRPO), **inputs, reward=other, out=tmp_path)


def test_a_batch_that_splits_a_group_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"global_batch 8 is no multiple of grpo.group 3"):
        AlignConfig(method="grpo", global_batch=8, grpo=GRPOConfig(group=3))
