"""The bias probe: pairs of sentences in which two groups of people are swapped, scored by lm-eval."""

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.evaluation.harness import TaskRun
from pipelines.evaluation.intervals import bootstrap_strata
from pipelines.evaluation.scores import Score

TASK = "bias_probe"
TEMPLATES = Path(__file__).with_name("bias_templates.json")
"""Our templates, with what they measure and what they do not."""


def read_templates(limit: int) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return at most `limit` templates as (name, axis, template), the axes in turn so that a few cover all."""
    axes = json.loads(TEMPLATES.read_text(encoding="utf-8"))["axes"]
    turns = zip(
        *[[(axis, number, item) for number, item in enumerate(axis["templates"])] for axis in axes], strict=True
    )
    named = ((f"{axis['axis']}-{number:02d}", axis, item) for turn in turns for axis, number, item in turn)
    return list(islice(named, limit))


def sentence_pairs(limit: int) -> Iterator[dict[str, Any]]:
    """Yield rows whose `sentences` are the stereotypical one and the one with the groups swapped."""
    for name, axis, template in read_templates(limit):
        for groups in axis["groups"]:
            for attributes in template["attributes"]:
                for place, attribute in enumerate(attributes):
                    said = [template["text"].format(group=group, attribute=attribute) for group in groups]
                    yield {"template": name, "axis": axis["axis"], "sentences": [said[place], said[1 - place]]}


def bias_task(limit: int) -> dict[str, Any]:
    """Return the probe as a task of lm-eval."""
    import datasets

    rows = datasets.Dataset.from_list(list(sentence_pairs(limit)))
    return {
        "task": TASK,
        "custom_dataset": lambda **_: {"test": rows},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "",
        "doc_to_target": 0,
        "doc_to_choice": "sentences",
        "target_delimiter": "",
        "num_fewshot": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": False}],
    }


def bias_scores(run: TaskRun, *, seed: int, resamples: int) -> list[Score]:
    """Return the mean log-likelihood difference over templates, of all axes and of each with two templates or more.

    A template is one value; axes count alike, and templates are resampled within their axis.
    """
    differences: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in run.rows:
        (stereotypical, _), (swapped, _) = row["filtered_resps"]
        differences[row["doc"]["axis"], row["doc"]["template"]].append(stereotypical - swapped)
    axes: dict[str, list[float]] = defaultdict(list)
    for (axis, _), found in sorted(differences.items()):
        axes[axis].append(float(np.mean(found)))

    def score(task: str, strata: dict[str, list[float]]) -> Score:
        equal = dict.fromkeys(strata, 1.0)
        value, low, high = bootstrap_strata(strata, weights=equal, seed=seed, resamples=resamples)
        return Score(task, "likelihood_difference", value, low, high, sum(map(len, strata.values())), False)

    single = {axis: values for axis, values in axes.items() if len(values) > 1}
    return [score(TASK, axes), *(score(f"{TASK}_{axis}", {axis: values}) for axis, values in single.items())]
