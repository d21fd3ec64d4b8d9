"""The reward model: trained by TRL, and asked for the reward of finished answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification
from trl.trainer.reward_config import RewardConfig as Arguments
from trl.trainer.reward_trainer import RewardTrainer

from pipelines.alignment.pairs import WHOLE, encode_whole, in_batches, padded, pair_scores
from pipelines.alignment.reward import RewardConfig
from pipelines.artifacts.curve import write_curve
from pipelines.artifacts.stage import Metrics
from pipelines.evaluation.scores import write_scores
from pipelines.finetuning.order import arranged
from pipelines.finetuning.publishing import chat_length, load_tokenizer, publish, read_template
from pipelines.finetuning.rows import Examples, stored
from pipelines.finetuning.training import Contained, arguments, calm, fit
from pipelines.models.loading import load_model

HEADS = frozenset({"score.weight", "lm_head.weight"})
"""The output that a reward model has and a language model has not, and the reverse."""


class Trainer(Contained, RewardTrainer):
    """TRL's trainer on finished rows."""


@calm()
def train_judge(config: RewardConfig, model: Path, preferences: Path, out: Path) -> Metrics:
    """Train, publish the reward model with its contract, and return counts, accuracy and margin."""
    length, text = chat_length(model, config.max_length), read_template(model)
    tokenizer = load_tokenizer(model)
    settings = arguments(Arguments, config, out, max_length=None, center_rewards_coefficient=config.centre)
    train = Examples(preferences / "train.jsonl", lambda row: encode_whole(row, tokenizer, text, length))
    rows = stored("reward", train, WHOLE, out)
    compared = Examples(preferences / "heldout.jsonl", train.encode)
    heldout = compared.whole("reward")
    trainer = Trainer(
        load_judge(model),
        args=settings,
        train_dataset=arranged(
            rows, ("chosen_ids", "rejected_ids"), config.global_batch, config.max_steps, config.seed
        ),
        processing_class=tokenizer,
    )
    judge, curve = fit(trainer, config, out, "reward", {"accuracy": "accuracy", "margin": "margin"})
    write_curve(out, curve)
    chosen, rejected = (
        rewards(judge, [pair[name] for pair in heldout], tokenizer.pad_token_id)
        for name in ("chosen_ids", "rejected_ids")
    )
    margins = [right - wrong for right, wrong in zip(chosen, rejected, strict=True)]
    scores = list(pair_scores("reward", [pair["kind"] for pair in heldout], margins, config.seed))
    write_scores(out / "scores" / "scores.json", out, scores)
    publish(judge, tokenizer, model, text, out / "model")
    return {
        **train.metrics(),
        **compared.metrics(),
        "loss": curve[-1]["loss"],
        **{score.name: score.value for score in scores},
    }


def load_judge(folder: Path) -> Any:
    """Return a model with one output; where `folder` holds a language model, the output's weights are drawn."""
    return load_model(folder, kind=AutoModelForSequenceClassification, dtype=torch.float32, heads=HEADS, num_labels=1)


def rewards(judge: Any, answers: Sequence[Sequence[int]], pad: int) -> list[float]:
    """Return the reward of each conversation, read at its last token."""

    def measure(batch: list[int]) -> Tensor:
        ids, mask = padded([answers[index] for index in batch], pad, judge.device)
        logits: Tensor = judge(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return logits[:, 0].float()

    return in_batches(measure, list(map(len, answers)))
