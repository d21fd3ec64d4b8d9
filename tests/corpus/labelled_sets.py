"""The public labelled sets, as the stage that trains the toxicity classifier reads them."""

from pathlib import Path
from typing import Any

from pipelines.corpus.train_toxicity import LabelledSet

FILES = {
    "tweets": "filters/hate-speech-labelled.csv.xz",
    "comments": "filters/toxic-spans-train.csv.xz",
    "news": "filters/articles_1000.train.xz",
    "maths": "tuning/gsm8k-train.jsonl.xz",
}
SETS: dict[str, dict[str, Any]] = {
    "tweets": {
        "text_field": "tweet",
        "label_field": "class",
        "toxic": ("0", "1"),
        "origin": "t-davidson/hate-speech-and-offensive-language cb50f7e (Davidson et al. 2017), MIT",
    },
    "comments": {
        "spans_field": "spans",
        "sentences": True,
        "origin": "ipavlopoulos/toxic_spans beaf170 (Pavlopoulos et al. 2021), CC0 1.0",
    },
    "news": {
        "format": "lines",
        "sentences": True,
        "max_texts": 10_000,
        "origin": "chrisjmccormick/MinHash b3b3343, MIT; taken as not toxic",
    },
    "maths": {
        "format": "jsonl",
        "text_field": "question",
        "max_texts": 3_000,
        "origin": "openai/grade-school-math 3101c7d, MIT; taken as not toxic",
    },
}


def labelled_set(name: str, data: Path, **changes: Any) -> LabelledSet:
    """Return the set of this name, read from the folder of public data."""
    return LabelledSet(name=name, path=data / FILES[name], **{**SETS[name], **changes})
