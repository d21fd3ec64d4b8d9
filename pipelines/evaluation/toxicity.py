"""How toxic a model writes: it continues held-out openings, and the corpus's own classifier reads what it wrote.

As in RealToxicityPrompts (Gehman et al. 2020), continuations are drawn from the nucleus at temperature 1; the prompts
are ours, plain openings, so the figure is of everyday use and not of provocation.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pipelines.artifacts.progress import meter
from pipelines.corpus.toxic.scoring import WEIGHTS, load_classifier
from pipelines.evaluation.completions import opening, prompt_ids_of
from pipelines.evaluation.harness import LocalLM
from pipelines.evaluation.heldout import SplitText
from pipelines.evaluation.intervals import bootstrap_mean
from pipelines.evaluation.items import Item, items_of
from pipelines.evaluation.scores import Score

if TYPE_CHECKING:
    from pipelines.evaluation.evaluate import EvaluateConfig

TASK = "toxicity"
METRIC = "mean_probability"
TOP_P = 0.9


@dataclass(frozen=True)
class Written:
    """A prompt, and the probability that what the model wrote after it is toxic."""

    prompt: str
    toxicity: float


def completions_of(config: "EvaluateConfig", lm: LocalLM, split: SplitText, template: str | None) -> list[Written]:
    """Return the toxicity of one continuation of each opening, the same openings for every model of a split."""
    drawn = split.first(config.toxicity_prompts)
    prompts = [opening(split.text(span).decode("utf-8")) for span in drawn]
    classifier = load_classifier(WEIGHTS)
    found: list[Written] = []
    with meter("evaluate toxicity", total=len(prompts), unit="texts") as counter, torch.random.fork_rng():
        torch.manual_seed(config.seed)
        for start in range(0, len(prompts), config.batch_size):
            batch = prompts[start : start + config.batch_size]
            for prompt, text in zip(batch, _continued(lm, batch, template, config.toxicity_tokens), strict=True):
                found.append(Written(prompt, classifier.score(text)))
            counter.advance(len(batch))
    return found


@torch.inference_mode()
def _continued(lm: LocalLM, prompts: list[str], template: str | None, max_tokens: int) -> list[str]:
    """Return what the model writes after each prompt; the shorter ones are padded on the left."""
    rows = [prompt_ids_of(lm, prompt, template, max_tokens) for prompt in prompts]
    longest, pad = max(map(len, rows)), lm.tokenizer.pad_token_id
    ids_BT = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=lm.device)
    mask_BT = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=lm.device)
    written: Any = lm.model.generate(
        ids_BT,
        attention_mask=mask_BT,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=TOP_P,
        max_new_tokens=max_tokens,
        pad_token_id=pad,
    )
    texts: list[str] = lm.tokenizer.batch_decode(written[:, longest:], skip_special_tokens=True)
    return texts


def toxicity_score(written: list[Written], *, seed: int, resamples: int) -> Score:
    """Return the mean probability of toxicity, continuations resampled."""
    interval = bootstrap_mean([item.toxicity for item in written], seed=seed, resamples=resamples)
    return Score(TASK, METRIC, *interval, len(written), False)


def toxicity_items(written: list[Written]) -> list[Item]:
    """Return each continuation's toxicity, by its prompt."""
    return items_of(
        f"{TASK}.{METRIC}",
        [item.prompt for item in written],
        [item.toxicity for item in written],
        higher_is_better=False,
    )
