"""One model through all its tasks: load, check the contract, run, score, sample."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.tasks import TaskManager

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import progress_dir
from pipelines.evaluation.bias import bias_scores, bias_task
from pipelines.evaluation.byte_ngram import ByteNgram
from pipelines.evaluation.completions import chat_template, opening, write_samples
from pipelines.evaluation.harness import LocalLM, TaskRun, run_tasks
from pipelines.evaluation.heldout import SplitText
from pipelines.evaluation.items import Item, write_items
from pipelines.evaluation.loading import load_lm
from pipelines.evaluation.official import notes_of, plan_official, run_official
from pipelines.evaluation.perplexity import baseline_bits, heldout_items, heldout_scores, heldout_task
from pipelines.evaluation.questions import questions_items, questions_scores, questions_task, read_questions
from pipelines.evaluation.scores import Score, write_scores
from pipelines.evaluation.surroundings import data_sets, offline, quiet
from pipelines.evaluation.toxicity import completions_of, toxicity_items, toxicity_score
from pipelines.finetuning.contract import check

if TYPE_CHECKING:
    from pipelines.evaluation.evaluate import EvaluateConfig

DIGITS = 6
"""Significant digits of a published figure: more than any interval has."""


def run_suite(
    config: "EvaluateConfig", *, model: Path, heldout: Path, train: Path | None, questions: Path | None, out: Path
) -> Metrics:
    """Write `scores/scores.json`, `items/` and `samples/` and return the scores by name."""
    contract = check(model)
    mirror = config.mirror.resolve() if config.mirror else None
    with quiet():
        manager, planned = plan_official(config, mirror)
    with quiet(), offline():
        lm = load_lm(model, device=config.device, dtype=config.dtype, batch_size=config.batch_size)
        split = SplitText(heldout, lm.tokenizer)
        if split.shards.tokenizer_digest != contract.tokenizer:
            raise UserError(f"heldout: {heldout} was sharded with another tokenizer than {model} has; shard it again")
        scores, items, notes = _own_scores(config, lm, split, train, questions)
        template = chat_template(model)
        if config.toxicity_prompts and lm.writes:
            written = completions_of(config, lm, split, template)
            scores.append(toxicity_score(written, seed=config.seed, resamples=config.resamples))
            items += toxicity_items(written)
        prompts = _prompts(config, split, questions if template else None) if lm.writes else []
        write_samples(out / "samples" / "samples.jsonl", out, lm, prompts, template, config.sample_tokens)
    with quiet(), data_sets(progress_dir(out).resolve() / "data_sets", mirror):
        for item in planned:
            found, own = run_official(config, manager, item, lm)
            scores, items = scores + found, items + own
    scores = [rounded(score) for score in scores]
    notes |= {"truncated_requests": lm.truncated, **notes_of(planned)}
    write_scores(out / "scores" / "scores.json", out, scores, notes=notes)
    write_items(out / "items", out, items)
    return {score.name: score.value for score in scores} | {"truncated_requests": float(lm.truncated)}


def _own_scores(
    config: "EvaluateConfig", lm: LocalLM, split: SplitText, train: Path | None, questions: Path | None
) -> tuple[list[Score], list[Item], dict[str, Any]]:
    """Return scores and items of the run's own data, which no network is needed for, and how they were made."""
    notes: dict[str, Any] = {}
    texts = [split.text(span) for span in split.draw(config.heldout_tokens)]
    if not texts:
        raise EmptyOutput("evaluate", {"held-out documents": 0})
    strings = [text.decode("utf-8") for text in texts]
    baseline = None
    if train is not None and config.baseline_bytes and lm.writes:  # no pseudo-likelihood is a code length
        model = ByteNgram(SplitText(train, lm.tokenizer).texts(config.baseline_bytes))
        baseline, notes["byte4gram"] = baseline_bits(model, texts)
    tokens = [len(lm.tok_encode(text, add_special_tokens=False)) for text in strings]
    run = _run_own(config, lm, heldout_task(strings, tokens))
    scores = heldout_scores(run, baseline, seed=config.seed, resamples=config.resamples, measure=lm.measure)
    items = heldout_items(run, lm.measure)
    if questions is not None and config.questions:
        run = _run_own(config, lm, questions_task(questions, config.questions, config.few_shot))
        scores += questions_scores(run)
        items += questions_items(run)
    if config.bias_templates:
        run = _run_own(config, lm, bias_task(config.bias_templates))
        scores += bias_scores(run, seed=config.seed, resamples=config.resamples)
    return scores, items, notes


def _run_own(config: "EvaluateConfig", lm: LocalLM, task: dict[str, Any]) -> TaskRun:
    loaded = TaskManager(include_defaults=False).load([task])
    return run_tasks(lm, task["task"], loaded, limit=None, few_shot=None, seed=config.seed)[task["task"]]


def _prompts(config: "EvaluateConfig", split: SplitText, questions: Path | None) -> list[str]:
    """Return questions for a chat model, openings of held-out documents for a base model."""
    if questions is not None:
        return [row["question"] for row in read_questions(questions / "test.jsonl", config.samples)]
    spans = split.draw(config.heldout_tokens)[: config.samples]
    return [opening(split.text(span).decode("utf-8")) for span in spans]


def rounded(score: Score) -> Score:
    """Return the score with as many digits as are published."""

    def shorten(number: float) -> float:
        return round(number, DIGITS - 1 - math.floor(math.log10(abs(number)))) if number else 0.0

    return replace(score, value=shorten(score.value), low=shorten(score.low), high=shorten(score.high))
