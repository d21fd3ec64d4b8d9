"""Takes secrets out of text that is about to be shown or kept."""

import os
import re
from collections.abc import Iterable, Mapping

from pipelines.corpus.personal.keys import find_keys

HIDDEN = "***"
SHORTEST = 6
"""Of a value that is looked for; a shorter one would also hide words that are no secret."""

_NAME = re.compile(
    r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|AUTH(?:_STRING)?|DSN)(?:_|$)", re.I
)
LOGIN_IN_URL = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")
_BEARER = re.compile(r"(?<=Bearer )[A-Za-z0-9._~+/=-]{8,}")


def secret_values(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the values of all variables whose name is that of a secret, the longest first."""
    found = {value for name, value in environment.items() if _NAME.search(name) and len(value) >= SHORTEST}
    return sorted(found, key=lambda value: (-len(value), value))


def redacted(text: str, values: Iterable[str]) -> str:
    """Return the text without these values, the user and password of URLs, and what has the form of a key or token."""
    for value in values:
        text = text.replace(value, HIDDEN)
    text = _BEARER.sub(HIDDEN, LOGIN_IN_URL.sub(HIDDEN, text))
    for start, end in sorted(find_keys(text), reverse=True):
        text = text[:start] + HIDDEN + text[end:]
    return text
