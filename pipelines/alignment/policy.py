"""Group relative policy optimisation by TRL against a reward model, and the rewards of held-out prompts' answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from trl.trainer.grpo_config import GRPOConfig as Arguments
from trl.trainer.grpo_trainer import GRPOTrainer

from pipelines.alignment.align import AlignConfig
from pipelines.alignment.judge import load_judge, rewards
from pipelines.artifacts.curve import write_curve
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.stage import Metrics
from pipelines.evaluation.intervals import bootstrap_mean
from pipelines.evaluation.scores import Score, write_scores
from pipelines.finetuning.chat import encode_chat, refusal
from pipelines.finetuning.contract import check
from pipelines.finetuning.publishing import chat_length, load_tokenizer, publish, read_template
from pipelines.finetuning.rows import Encoded, Examples, stored
from pipelines.finetuning.training import Contained, arguments, calm, fit
from pipelines.models.loading import load_model

PROMPT = pa.schema([("prompt", pa.list_(pa.int32()))])
LOGGED = {"reward": "reward", "kl": "kl", "completions/mean_length": "answer_tokens"}

Ids = list[int]


class Trainer(Contained, GRPOTrainer):
    """TRL's trainer on prompts that are ids already."""

    def _tokenize_prompts(self, prompts: list[Ids]) -> tuple[list[Ids], None, dict[str, Any]]:
        return prompts, None, {}


@calm()
def optimise_reward(config: AlignConfig, model: Path, preferences: Path, reward: Path, out: Path) -> Metrics:
    """Train, publish the model with its contract, and return counts and the reward before and after."""
    length, text = chat_length(model, config.max_length), read_template(model)
    if check(reward).digest != check(model).digest:
        raise UserError("align.reward: the reward model's contract is not the model's; train it from the same sft")
    tokenizer, grpo = load_tokenizer(model), config.grpo
    settings = arguments(
        Arguments,
        config,
        out,
        beta=grpo.beta,
        num_generations=grpo.group,
        max_completion_length=grpo.max_new_tokens,
        temperature=grpo.temperature,
    )
    longest = length - grpo.max_new_tokens
    train = Examples(preferences / "train.jsonl", lambda row: encode_prompt(row, tokenizer, text, longest))
    rows = stored("align", train, PROMPT, out)
    judge = load_judge(reward).eval().to(settings.device)

    def judged(prompts: list[Ids], completion_ids: list[Ids], **_: Any) -> list[float | None]:
        return list(_judged(judge, prompts, completion_ids, tokenizer.pad_token_id))

    compared = Examples(preferences / "heldout.jsonl", train.encode)
    heldout = [row["prompt"] for row in compared.whole("align")][: config.heldout]
    policy = load_model(model, dtype=torch.float32)
    before = _judged(judge, heldout, _answers(policy, heldout, grpo.max_new_tokens, tokenizer), tokenizer.pad_token_id)
    trainer = Trainer(policy, reward_funcs=judged, args=settings, train_dataset=rows, processing_class=tokenizer)
    tuned, curve = fit(trainer, config, out, "align", LOGGED)
    write_curve(out, curve)
    after = _judged(judge, heldout, _answers(tuned, heldout, grpo.max_new_tokens, tokenizer), tokenizer.pad_token_id)
    gains = [new - old for new, old in zip(after, before, strict=True)]
    figures = {"reward_before": before, "reward_after": after, "reward_gain": gains}
    scores = [
        Score("grpo", name, *bootstrap_mean(values, seed=config.seed), len(values), True)
        for name, values in figures.items()
    ]
    write_scores(out / "scores" / "scores.json", out, scores)
    publish(tuned, tokenizer, model, text, out / "model")
    return {
        **train.metrics(),
        **compared.metrics(),
        "loss": curve[-1]["loss"],
        **{score.name: score.value for score in scores},
    }


def encode_prompt(row: Mapping[str, Any], tokenizer: Any, template: str, longest: int) -> Encoded | str:
    """Return the prompt's ids up to where the assistant begins, or the reason why it cannot be used."""
    prompt = row.get("prompt")
    refused = refusal(prompt)
    if refused or prompt is None:
        return refused or "no_prompt"
    ids, _ = encode_chat(tokenizer, prompt, template, add_generation_prompt=True)
    return {"prompt": ids} if len(ids) <= longest else "too_long"


def _answers(model: Any, prompts: Sequence[Ids], max_new_tokens: int, tokenizer: Any) -> list[Ids]:
    """Return the likeliest-token answer to each prompt, up to and with the end of the turn."""
    answers = []
    with torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([prompt], device=model.device)
            whole = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=max_new_tokens
            )
            answers.append(whole[0, len(prompt) :].tolist())
    return answers


def _judged(judge: Any, prompts: Sequence[Ids], answers: Sequence[Ids], pad: int) -> list[float]:
    return rewards(judge, [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)], pad)
