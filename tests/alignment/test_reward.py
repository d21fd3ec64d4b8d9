"""The reward model tells the better of two answers, and says how surely."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pipelines.alignment.judge import rewards
from pipelines.alignment.pairs import encode_pair
from pipelines.alignment.reward import RewardConfig, reward
from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.evaluation.scores import read_scores
from pipelines.finetuning.chat import default_template
from pipelines.finetuning.contract import check
from tests.finetuning.tiny import assistant, build_model, digests, run_and_kill, user, write_preferences
from tests.scores import find_score

TEMPLATE = default_template()
SHORT = {"max_steps": 6, "global_batch": 8, "micro_batch": 4, "checkpoint_every": 2, "warmup_steps": 2}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reward")
    return {
        "model": build_model(folder / "model", template=TEMPLATE),
        "preferences": write_preferences(folder / "preferences"),
    }


def test_it_learns_to_prefer_and_scores_every_kind_with_an_interval(inputs: dict[str, Path], tmp_path: Path) -> None:
    config = RewardConfig(max_steps=25, global_batch=16, lr=3e-3, warmup_steps=2)
    metrics = reward(config, **inputs, out=tmp_path)
    scores = read_scores(tmp_path / "scores" / "scores.json")
    assert {score.metric for score in scores} == {
        f"{figure}{kind}" for figure in ("accuracy", "margin") for kind in ("", ".cut", ".swapped")
    }
    overall = find_score(scores, "reward", "accuracy")
    assert overall.n == 20
    assert overall.low > 0.5
    assert metrics["reward.accuracy"] == overall.value
    assert (metrics["in"], metrics["kept"]) == (60, 60)
    assert check(tmp_path / "model").digest == check(inputs["model"]).digest
    curve = [json.loads(line) for line in (tmp_path / "curve" / "curve.jsonl").read_text().splitlines()]
    assert curve[-1]["accuracy"] > curve[0]["accuracy"]


def test_the_published_model_gives_the_rewards_that_were_scored(inputs: dict[str, Path], tmp_path: Path) -> None:
    reward(RewardConfig(**SHORT), **inputs, out=tmp_path)
    judge = AutoModelForSequenceClassification.from_pretrained(str(tmp_path / "model")).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "model"))
    lines = (inputs["preferences"] / "heldout.jsonl").read_text().splitlines()
    pairs: list[Any] = [encode_pair(json.loads(line), tokenizer, TEMPLATE, 64) for line in lines]
    chosen, rejected = (
        rewards(judge, [pair["prompt_ids"] + pair[name] for pair in pairs], 1)
        for name in ("chosen_ids", "rejected_ids")
    )
    mean = sum(right - wrong for right, wrong in zip(chosen, rejected, strict=True)) / len(pairs)
    score = find_score(read_scores(tmp_path / "scores" / "scores.json"), "reward", "margin")
    assert score.value == pytest.approx(mean, abs=1e-5)


@pytest.mark.slow
def test_a_reward_run_that_was_killed_ends_in_the_same_bytes(inputs: dict[str, Path], tmp_path: Path) -> None:
    whole, killed, kills = run_and_kill("pipelines.alignment.reward", SHORT, inputs, tmp_path)
    assert kills >= 2
    assert digests(killed) == digests(whole)


def test_a_model_without_a_template_is_no_start(inputs: dict[str, Path], tmp_path: Path) -> None:
    base = build_model(tmp_path / "base")
    with pytest.raises(UserError, match=r"no chat_template.jinja; name a model that went through sft"):
        reward(RewardConfig(**SHORT), model=base, preferences=inputs["preferences"], out=tmp_path)


def test_held_out_pairs_that_are_all_too_long_end_it_before_training(inputs: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "preferences"
    folder.mkdir()
    rows = (inputs["preferences"] / "train.jsonl").read_text()
    (folder / "train.jsonl").write_text(rows)
    long = json.loads(rows.splitlines()[0]) | {"rejected": [assistant("low " * 9_999)]}
    (folder / "heldout.jsonl").write_text(json.dumps(long) + "\n")
    with pytest.raises(EmptyOutput, match=r"reward: .*heldout\.in 1, heldout\.kept 0, heldout\.dropped\.too_long 1"):
        reward(RewardConfig(**SHORT), model=inputs["model"], preferences=folder, out=tmp_path / "out")
    assert not (tmp_path / "out" / "curve").exists()


GOOD: dict[str, Any] = {"prompt": [user("the mill")], "chosen": [assistant("grinds")], "rejected": [assistant("low")]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": None}, "no_prompt"),
        ({"prompt": "the mill"}, "no_prompt"),
        ({"prompt": [assistant("a")]}, "no_prompt"),
        ({"chosen": []}, "no_chosen"),
        ({"rejected": [user("a")]}, "no_rejected"),
        ({"rejected": [assistant(" ")]}, "empty_turn"),
        ({"rejected": [assistant("grinds")]}, "equal_answers"),
        ({"rejected": [assistant("low " * 99)]}, "too_long"),
        ({"prompt": ["text", user("a")]}, "unknown_role"),
    ],
)
def test_a_pair_that_cannot_be_used_has_a_reason(inputs: dict[str, Path], change: dict[str, Any], reason: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(inputs["model"]))
    assert encode_pair({**GOOD, **change}, tokenizer, TEMPLATE, 64) == reason


def test_answers_follow_their_prompt_and_end_their_turn(inputs: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(inputs["model"]))
    pair = encode_pair(GOOD, tokenizer, TEMPLATE, 64)
    assert not isinstance(pair, str)
    assert tokenizer.decode(pair["prompt_ids"]) == "<|bos|><|user|>the mill<|end|><|assistant|>"
    assert tokenizer.decode(pair["chosen_ids"]) == "grinds<|end|>"
    assert pair["kind"] == "given"
