"""Direct preference optimisation by TRL, and the implicit rewards of the held-out pairs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from trl.trainer.dpo_config import DPOConfig as Arguments
from trl.trainer.dpo_trainer import DPOTrainer

from pipelines.alignment.align import AlignConfig
from pipelines.alignment.pairs import PAIR, encode_pair, log_likelihoods, pair_scores
from pipelines.artifacts.curve import write_curve
from pipelines.artifacts.stage import Metrics
from pipelines.evaluation.scores import write_scores
from pipelines.finetuning.head import score_labels_only
from pipelines.finetuning.order import arranged
from pipelines.finetuning.publishing import chat_length, load_tokenizer, publish, read_template
from pipelines.finetuning.rows import Encoded, Examples, stored
from pipelines.finetuning.training import Contained, arguments, calm, fit
from pipelines.models.loading import load_model

LOGGED = {"rewards/accuracies": "accuracy", "rewards/margins": "margin"}


class Trainer(Contained, DPOTrainer):
    """TRL's trainer on finished rows."""


@calm()
def optimise_preferences(config: AlignConfig, model: Path, preferences: Path, out: Path) -> Metrics:
    """Train, publish the model with its contract, and return counts, accuracy and margin."""
    length, text = chat_length(model, config.max_length), read_template(model)
    tokenizer = load_tokenizer(model)
    losses = {"sigmoid": 1.0} | ({"sft": config.dpo.sft_weight} if config.dpo.sft_weight else {})
    settings = arguments(
        Arguments,
        config,
        out,
        max_length=None,
        beta=config.dpo.beta,
        loss_type=list(losses),
        loss_weights=list(losses.values()),
    )
    train = Examples(preferences / "train.jsonl", lambda row: encode_pair(row, tokenizer, text, length))
    rows = stored("align", train, PAIR, out)
    compared = Examples(preferences / "heldout.jsonl", train.encode)
    heldout = compared.whole("align")
    reference = load_model(model, dtype=torch.float32)
    trainer = Trainer(
        load_model(model, dtype=torch.float32),
        ref_model=reference,
        args=settings,
        train_dataset=arranged(
            rows, ("prompt_ids", "chosen_ids", "rejected_ids"), config.global_batch, config.max_steps, config.seed
        ),
        processing_class=tokenizer,
    )
    if config.device == "cpu":
        score_labels_only(trainer.model)
        score_labels_only(reference)
    tuned, curve = fit(trainer, config, out, "align", LOGGED)
    write_curve(out, curve)
    margins = implicit_margins(tuned, reference, heldout, tokenizer.pad_token_id)
    scaled = [config.dpo.beta * margin for margin in margins]
    scores = list(pair_scores("dpo", [pair["kind"] for pair in heldout], scaled, config.seed))
    write_scores(out / "scores" / "scores.json", out, scores)
    publish(tuned, tokenizer, model, text, out / "model")
    return {
        **train.metrics(),
        **compared.metrics(),
        "loss": curve[-1]["loss"],
        **{score.name: score.value for score in scores},
    }


def implicit_margins(policy: Any, reference: Any, pairs: Sequence[Encoded], pad: int) -> list[float]:
    """Return, for each pair, how much more the policy raised the chosen answer's log-likelihood than the other's."""
    prompts = [pair["prompt_ids"] for pair in pairs]
    raised = []
    for name in ("chosen_ids", "rejected_ids"):
        answers = [pair[name] for pair in pairs]
        now, then = (log_likelihoods(model, prompts, answers, pad) for model in (policy, reference))
        raised.append([new - old for new, old in zip(now, then, strict=True)])
    return [chosen - rejected for chosen, rejected in zip(*raised, strict=True)]
